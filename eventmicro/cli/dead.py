"""`eventmicro dead`: the dead letters of a queue, to look at them, to publish their events again, to drop them."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import aclosing, contextmanager
from typing import Annotated

import typer

from eventmicro.cli import session
from eventmicro.cli.connecting import Broker, connected_to_queues
from eventmicro.cli.letters import print_counts, print_rows, print_whole
from eventmicro.cli.moments import read_moment
from eventmicro.cli.output import Form, Json, chosen
from eventmicro.cli.queues import print_states
from eventmicro.cli.show import examples, one_line
from eventmicro.errors import UsageError
from eventmicro.events.browsing import HOLD
from eventmicro.events.letters import DEAD, DeadLetter, DeadLetters, LetterFilter, Outcome

app = typer.Typer(
    help="Look at dead letters, publish their events again, or drop them; on each broker that keeps events.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
LIST_EPILOG = examples(
    "eventmicro dead list",
    "eventmicro dead list orders.bill --count",
    "eventmicro dead list orders.bill --reason timeout --since 2h",
)
SHOW_EPILOG = examples(
    "eventmicro dead show orders.bill --limit 1", "eventmicro dead show orders.bill --json | jq '.[].body'"
)
REPLAY_EPILOG = examples(
    "eventmicro dead replay orders.bill --dry-run",
    "eventmicro dead replay orders.bill --reason 'no such account' --rate 100",
    "eventmicro dead replay orders.bill --to orders.repaired",
)
DROP_EPILOG = examples("eventmicro dead drop orders.bill --before 30d", "eventmicro dead drop orders.bill --all")
# How many letters `show` prints where nothing else is said.
SHOWN = 10

Queue = Annotated[
    str,
    typer.Argument(metavar="QUEUE", help="Whose events they were, as orders.bill; dead.orders.bill is the same."),
]
AnyQueue = Annotated[
    str | None,
    typer.Argument(metavar="QUEUE", help="Whose events they were. Default: which queues of letters there are."),
]
At = Annotated[
    str | None,
    typer.Option(metavar="SUBJECT", help="Where the letters are, if the subscriber names a dead_letter of its own."),
]
Reason = Annotated[
    str | None,
    typer.Option(metavar="TEXT", help="Only those whose reason has this in it, or is like this, with a *."),
]
Subject = Annotated[
    str | None,
    typer.Option(
        metavar="SUBJECT", help="Only events that were published there; * stands for any text, > at the end, too."
    ),
]
Since = Annotated[
    str | None,
    typer.Option(metavar="TIME", help="Only letters from then on: 90s, 30m, 2h or 7d ago, or 2026-05-01T12:00."),
]
Before = Annotated[str | None, typer.Option(metavar="TIME", help="Only letters of before then; as of --since.")]
Id = Annotated[str | None, typer.Option(metavar="ID", help="Only this letter.")]
Hold = Annotated[
    int,
    typer.Option(
        min=1,
        metavar="N",
        help="Look past so many letters at most that are not meant. On Kafka, with far more than 500, some that are "
        "done may come again.",
    ),
]
Most = Annotated[int | None, typer.Option(min=1, metavar="N", help="No more than so many.")]
Rate = Annotated[float | None, typer.Option(min=0.001, metavar="N", help="No more than so many a second.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Do nothing; say how many are meant.")]


def list_letters(
    queue: AnyQueue = None,
    at: At = None,
    reason: Reason = None,
    subject: Subject = None,
    since: Since = None,
    before: Before = None,
    count: Annotated[bool, typer.Option("--count", help="How many there are of each subject and reason.")] = False,
    limit: Annotated[int, typer.Option(min=1, metavar="N", help="Look at no more than so many letters.")] = HOLD,
    output: Form = None,
    json: Json = False,
    broker: Broker = None,
) -> None:
    """List dead letters, the oldest first: when, where, why. They all stay.

    Each look counts as a delivery of the letter. While it lasts, nobody else gets those letters; on JetStream what was
    looked at counts as unsettled from then on.
    """
    form = chosen(output, json)
    if queue is None:
        print_states(broker, lambda name: name.startswith(DEAD), form)
        return
    found, outcome = _read(broker, queue, at, _which(reason, subject, since, before), limit)
    if count:
        print_counts(form, found)
    else:
        print_rows(form, found)
    _say_how_many(outcome, limit)


def show(
    queue: Queue,
    at: At = None,
    id: Id = None,
    reason: Reason = None,
    subject: Subject = None,
    since: Since = None,
    before: Before = None,
    limit: Annotated[int, typer.Option(min=1, metavar="N", help="Show no more than so many.")] = SHOWN,
    hold: Hold = HOLD,
    output: Form = None,
    json: Json = False,
    broker: Broker = None,
) -> None:
    """Show dead letters as a whole, the oldest first, with headers and body. They all stay."""
    which, form = _which(reason, subject, since, before, id), chosen(output, json)
    found, outcome = _read(broker, queue, at, which, hold, most=limit)
    print_whole(form, found)
    if id is not None and not found:
        raise UsageError(f"there is no letter {id!r} among the first {hold} of {queue}: `eventmicro dead list {queue}`")
    if not found:
        _say_how_many(outcome, hold)


def replay(
    queue: Queue,
    at: At = None,
    id: Id = None,
    reason: Reason = None,
    subject: Subject = None,
    since: Since = None,
    before: Before = None,
    to: Annotated[
        str | None, typer.Option(metavar="SUBJECT", help="Publish there, and not where the event was.")
    ] = None,
    rate: Rate = None,
    limit: Most = None,
    dry_run: DryRun = False,
    hold: Hold = HOLD,
    broker: Broker = None,
) -> None:
    """Publish the events of dead letters again, with key and headers, and take the letters out.

    On RabbitMQ only the queue gets an event that had given it up. Elsewhere it goes to its subject, and so to all
    queues of that, those which had handled it, too; --to names another one. A letter is taken out when its event is
    stored: cut off at any moment and run again, nothing is lost; by Ctrl-C none comes twice, by a kill up to some
    hundred. What fails again is a letter again, for the next run.
    """
    which = _which(reason, subject, since, before, id)
    _work(
        broker,
        queue,
        at,
        hold,
        "replayed",
        lambda letters, tell: letters.replay(which, to=to, rate=rate, limit=limit, dry_run=dry_run, progress=tell),
        dry_run,
    )


def drop(
    queue: Queue,
    at: At = None,
    id: Id = None,
    reason: Reason = None,
    subject: Subject = None,
    since: Since = None,
    before: Before = None,
    all_of_them: Annotated[bool, typer.Option("--all", help="All that are there.")] = False,
    rate: Rate = None,
    limit: Most = None,
    dry_run: DryRun = False,
    hold: Hold = HOLD,
    broker: Broker = None,
) -> None:
    """Take dead letters out for good. Say which by an option, or --all."""
    which = _which(reason, subject, since, before, id)
    if all_of_them == (which != LetterFilter()):
        raise UsageError("say which letters to drop: by --id, --reason, --subject, --since, --before; or --all alone")
    _work(
        broker,
        queue,
        at,
        hold,
        "dropped",
        lambda letters, tell: letters.drop(which, rate=rate, limit=limit, dry_run=dry_run, progress=tell),
        dry_run,
    )


app.command("list", epilog=LIST_EPILOG)(list_letters)
app.command("show", epilog=SHOW_EPILOG)(show)
app.command("replay", epilog=REPLAY_EPILOG)(replay)
app.command("drop", epilog=DROP_EPILOG)(drop)


def _which(
    reason: str | None, subject: str | None, since: str | None, before: str | None, id: str | None = None
) -> LetterFilter:
    from_then, until = read_moment(since, "--since"), read_moment(before, "--before")
    return LetterFilter(reason=reason, subject=subject, since=from_then, before=until, id=id)


def _read(
    broker: str | None, queue: str, at: str | None, which: LetterFilter, hold: int, most: int | None = None
) -> tuple[list[DeadLetter], Outcome]:
    """The letters that are meant, the oldest first, and how many there are in all, as far as the broker says it.

    All that may be held are looked at, however few are wanted: what was given back is delivered in another order.
    """
    outcome = Outcome()

    async def read() -> list[DeadLetter]:
        async with connected_to_queues(broker) as client:
            letters = DeadLetters(client.broker, queue, subject=at, hold=hold)
            async with aclosing(letters.read(which, outcome)) as reading:
                found = [letter async for letter in reading]
        return sorted(found, key=_stored)[:most]

    return session.run(read()), outcome


def _stored(letter: DeadLetter) -> float:
    """When it was; in which order those came of which that is not known stays so."""
    return 0.0 if letter.time is None else letter.time.timestamp()


Work = Callable[[DeadLetters, Callable[[Outcome], None]], Awaitable[Outcome]]


def _work(broker: str | None, queue: str, at: str | None, hold: int, done: str, work: Work, dry_run: bool) -> None:
    """Do something with letters, show how far it is, and say at the end what came of it."""
    latest = Outcome()

    async def work_on(bar: Callable[[Outcome], None]) -> Outcome:
        def tell(outcome: Outcome) -> None:
            nonlocal latest
            latest = outcome
            bar(outcome)

        async with connected_to_queues(broker) as client:
            return await work(DeadLetters(client.broker, queue, subject=at, hold=hold), tell)

    try:
        with _bar(done) as bar:
            outcome = session.run(work_on(bar))
    except BaseException:
        if latest.read:
            typer.echo(f"cut off: {latest.done} {done}; what is not done stays", err=True)
        raise
    if dry_run:
        typer.echo(f"{outcome.meant} of {outcome.read} letters would be {done}")
    else:
        typer.echo(f"{outcome.done} of {outcome.read} letters {done}")
    if outcome.read and not outcome.meant:
        text = f"none of these is meant: `eventmicro dead list {queue} --count` has their subjects and reasons"
        typer.echo(one_line(f"eventmicro: {text}"), err=True)
    _say_what_is_left(outcome, hold)


def _say_what_is_left(outcome: Outcome, hold: int) -> None:
    """Say what is not done; the exit code is 1 where there is something."""
    if outcome.failed:
        typer.echo(one_line(f"eventmicro: {outcome.failed} could not be, and stay: {outcome.error}"), err=True)
    if outcome.is_full:
        text = f"{hold} letters stay, and no more are looked past: behind them there may be others, see --hold"
        typer.echo(f"eventmicro: {text}", err=True)
    if outcome.absent:
        _say_absent(outcome)
    if outcome.failed or outcome.is_full or outcome.absent:
        raise typer.Exit(1)


@contextmanager
def _bar(done: str) -> Iterator[Callable[[Outcome], None]]:
    """What shows how far it is; on a terminal only."""
    if not sys.stderr.isatty():
        yield lambda outcome: None
        return
    from rich.console import Console  # who only lists waits for none of it
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TaskProgressColumn,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = (TextColumn(done), BarColumn(), MofNCompleteColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(done, total=None)
        yield lambda outcome: progress.update(task, completed=outcome.done, total=outcome.expected)


def _say_how_many(outcome: Outcome, limit: int) -> None:
    """Say, for a person, of how many these are."""
    shown, there = outcome.meant, outcome.expected
    if outcome.is_full and there is not None:
        typer.echo(f"{shown} among the first {limit} of {there} letters; --limit {there} looks at all", err=True)
    else:
        typer.echo(f"{shown} letters" if there is None else f"{shown} of {there} letters", err=True)
    if outcome.absent:
        _say_absent(outcome)


def _say_absent(outcome: Outcome) -> None:
    typer.echo(
        f"eventmicro: {outcome.absent} letters did not come: another consumer has them, or had them and was killed; "
        "then they come again, on JetStream when ack_wait is over, on Kafka when session_timeout is: run it again",
        err=True,
    )
