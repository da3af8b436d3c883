"""`eventmicro dead` and `eventmicro queues`, on every broker that keeps events."""

from __future__ import annotations

import asyncio
import json
import secrets
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, field, replace
from io import StringIO
from pathlib import Path

import pytest

from eventmicro.broker import Broker, DeclaresQueues, Durable
from eventmicro.cli.app import run_app
from eventmicro.message import Delivery, Message
from eventmicro.plugins import open_broker
from tests.processes import LIMIT, Program, eventmicro

BROKERS = ("jetstream", "rabbitmq", "kafka")
ESCAPE = "\x1b[31m"


@dataclass
class Done:
    """What a command has said."""

    out: StringIO = field(default_factory=StringIO)
    err: StringIO = field(default_factory=StringIO)

    @property
    def stdout(self) -> str:
        return self.out.getvalue()

    @property
    def stderr(self) -> str:
        return self.err.getvalue()


@dataclass
class Shop:
    """A queue whose dead letters are there, and the commands on its broker."""

    url: str
    name: str

    @property
    def queue(self) -> str:
        return f"{self.name}.bill"

    @property
    def subject(self) -> str:
        return f"{self.name}.placed"

    def __call__(self, *words: str, code: int = 0) -> Done:
        """Run a command, in this process: there are many here."""
        done = Done()
        with pytest.MonkeyPatch.context() as patch, redirect_stdout(done.out), redirect_stderr(done.err):
            patch.setattr(sys, "argv", ["eventmicro", *words, "--broker", self.url])
            with pytest.raises(SystemExit) as ended:
                run_app()
        assert (ended.value.code or 0) == code, done.stderr
        return done

    def letters(self, *bodies: str, **headers: str) -> None:
        """Make the queues, as a subscriber does, and give events up."""
        about = {"Dead-Letter-Subject": self.subject, "Dead-Letter-Queue": self.queue, "Dead-Letter-Attempts": "5"}
        about |= {"Dead-Letter-Reason": "failed 5 times, the last time by KeyError: 'sku'", "Tenant": "acme"} | headers
        messages = [Message(f"dead.{self.queue}", body.encode(), dict(about)) for body in bodies]

        async def publish(broker: Broker) -> None:
            assert isinstance(broker, DeclaresQueues)
            durable = Durable(dead_letter=f"dead.{self.queue}")
            await broker.declare(self.subject, queue=self.queue, durable=durable)
            if self.url.startswith("amqp"):
                await broker.declare(f"dead.{self.queue}", queue=f"dead.{self.queue}", durable=Durable())
            await broker.publish_many(messages)

        asyncio.run(self._on(publish))

    def keeps(self, count: int) -> bool:
        """Whether so many letters are told to be left; a broker counts them beside what it confirms."""
        ends = time.monotonic() + LIMIT
        while time.monotonic() < ends:
            (state,) = json.loads(self("queues", f"dead.{self.queue}", "--json").stdout)
            if state["waiting"] + (state["unsettled"] or 0) == count:
                return True
            time.sleep(0.05)
        return False

    def came(self, count: int) -> list[Delivery]:
        """What came to the queue."""
        came: list[Delivery] = []

        async def take(broker: Broker) -> None:
            def receive(delivery: Delivery) -> None:
                delivery.try_ack()
                came.append(delivery)

            await broker.subscribe(self.subject, receive, queue=self.queue, durable=Durable())
            async with asyncio.timeout(LIMIT):
                while len(came) < count:
                    await asyncio.sleep(0.01)

        asyncio.run(self._on(take))
        return came

    async def _on(self, work: Callable[[Broker], object]) -> None:
        broker = open_broker(self.url)
        await broker.connect()
        try:
            await work(broker)  # type: ignore[misc]
        finally:
            await broker.close()


@pytest.fixture(params=BROKERS)
def shop(request: pytest.FixtureRequest) -> Shop:
    return Shop(request.getfixturevalue(f"{request.param}_url"), f"shop-{secrets.token_hex(4)}")


@pytest.fixture
def jetstream(jetstream_url: str) -> Shop:
    return Shop(jetstream_url, f"shop-{secrets.token_hex(4)}")


def lines(text: str) -> Sequence[str]:
    return text.rstrip("\n").splitlines()


def test_letters_are_listed_published_again_and_dropped(shop: Shop) -> None:
    shop.letters('{"id": 1}', '{"id": 2}')
    shop.letters('{"id": 3}', **{"Dead-Letter-Reason": "rejected: no such account"})
    listed = shop("dead", "list", shop.queue)
    assert len(lines(listed.stdout)) == 4
    assert listed.stderr == "3 of 3 letters\n"
    assert shop("dead", "list", f"dead.{shop.queue}", "--count", "--json").stdout.count('"count"') == 2
    (dry,) = lines(shop("dead", "replay", shop.queue, "--reason", "no such", "--dry-run").stdout)
    assert dry == "1 of 3 letters would be replayed"
    assert shop("dead", "replay", shop.queue, "--reason", "no such").stdout == "1 of 3 letters replayed\n"
    (event,) = shop.came(1)
    assert (event.subject, event.body, event.headers) == (shop.subject, b'{"id": 3}', {"Tenant": "acme"})
    assert shop.keeps(2)
    assert shop("dead", "drop", shop.queue, "--all").stdout == "2 of 2 letters dropped\n"
    left = shop("dead", "list", shop.queue)
    assert (left.stdout, left.stderr) == ("", "0 of 0 letters\n")
    shown = shop("dead", "show", shop.queue)
    assert (shown.stdout, shown.stderr) == ("", "0 of 0 letters\n")


def test_queues_that_are_not_there_are_told(shop: Shop) -> None:
    shop.letters("1")
    for command in (("dead", "list"), ("dead", "replay"), ("queues",)):
        told = shop(*command, f"{shop.queue}x", code=2)
        assert f"{shop.queue}x" in told.stderr
        assert "Traceback" not in told.stderr
    if not shop.url.startswith("amqp"):
        assert f"dead.{shop.queue}" in shop("dead", "list").stdout
        assert f"dead.{shop.queue}" in shop("dead", "replay", f"{shop.queue}x", code=2).stderr
    else:
        nobody = ("--registry", "memory://")  # other tests have services on this server
        assert "name them" in shop("queues", *nobody, code=2).stderr


def test_a_letter_is_shown_as_a_whole_and_steers_no_terminal(jetstream: Shop) -> None:
    hostile = {"Dead-Letter-Reason": f"rejected: {ESCAPE}", "Tenant": f"{ESCAPE}acme"}
    jetstream.letters(f'"{ESCAPE}"', '{"id": 7}', **hostile)
    for words in (("list",), ("list", "--count"), ("show",), ("list", "--json")):
        done = jetstream("dead", words[0], jetstream.queue, *words[1:])
        assert "\x1b" not in done.stdout + done.stderr
    shown = jetstream("dead", "show", jetstream.queue, "-o", "raw").stdout
    letters = [json.loads(line) for line in lines(shown)]
    assert [letter.get("body") for letter in letters] == [None, {"id": 7}]
    assert letters[1]["headers"] == {"Tenant": f"{ESCAPE}acme"}
    assert (letters[1]["attempts"], letters[1]["subject"]) == (5, jetstream.subject)
    text = jetstream("dead", "show", jetstream.queue, "--id", letters[1]["id"]).stdout
    assert '"id": 7' in text
    assert "reason    rejected: \\u001b[31m" in text
    assert "there is no letter" in jetstream("dead", "show", jetstream.queue, "--id", "x", code=2).stderr


def test_letters_are_listed_and_shown_from_the_oldest_on_however_often_they_were_looked_at(jetstream: Shop) -> None:
    for number in range(3):
        jetstream.letters(str(number))
    for _ in range(2):  # the server delivers in another order what was given back
        for command in ("list", "show"):
            found = json.loads(jetstream("dead", command, jetstream.queue, "--json").stdout)
            assert [letter["body"] for letter in found] == [0, 1, 2]
        (oldest,) = json.loads(jetstream("dead", "show", jetstream.queue, "--limit", "1", "--json").stdout)
        assert oldest["body"] == 0


def test_what_stays_is_said_and_the_exit_code_tells_it(jetstream: Shop) -> None:
    jetstream.letters(*map(str, range(4)))
    jetstream.letters("9", **{"Dead-Letter-Subject": ""})
    full = jetstream("dead", "replay", jetstream.queue, "--reason", "else", "--hold", "2", code=1)
    assert full.stdout == "0 of 2 letters replayed\n"
    assert "2 letters stay" in full.stderr
    limited = jetstream("dead", "list", jetstream.queue, "--limit", "2")
    assert limited.stderr == "2 among the first 2 of 5 letters; --limit 5 looks at all\n"
    done = jetstream("dead", "replay", jetstream.queue, "--rate", "1000", code=1)
    assert done.stdout == "4 of 5 letters replayed\n"
    assert "1 could not be, and stay" in done.stderr
    assert jetstream("dead", "replay", jetstream.queue, "--to", f"{jetstream.name}.other").stdout.startswith("1 of 1")
    assert len(jetstream.came(4)) == 4


def test_all_letters_are_dropped_only_on_demand(jetstream: Shop) -> None:
    jetstream.letters("1")
    assert "--all" in jetstream("dead", "drop", jetstream.queue, code=2).stderr
    assert "--all" in jetstream("dead", "drop", jetstream.queue, "--all", "--since", "1h", code=2).stderr
    assert "30m" in jetstream("dead", "drop", jetstream.queue, "--since", "soon", code=2).stderr
    dropped = jetstream("dead", "drop", jetstream.queue, "--before", "1h")
    assert dropped.stdout == "0 of 1 letters dropped\n"
    mend = f"`eventmicro dead list {jetstream.queue} --count` has their subjects and reasons"
    assert dropped.stderr == f"eventmicro: none of these is meant: {mend}\n"
    assert jetstream("dead", "drop", jetstream.queue, "--since", "1h").stdout == "1 of 1 letters dropped\n"


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Programs that are started hear SIGINT, also where a shell runs the tests in the background, ignoring it."""
    before = signal.getsignal(signal.SIGINT)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_a_replay_that_is_cut_off_is_run_again_and_nothing_is_lost(
    jetstream: Shop, tmp_path: Path, number: signal.Signals
) -> None:
    shop = replace(jetstream, url=f"{jetstream.url}?ack_wait=1")
    shop.letters(*map(str, range(60)))
    with Program(tmp_path, "dead", "replay", shop.queue, "--rate", "10", "--broker", shop.url) as program:
        came = [delivery.body for delivery in shop.came(8)]
        code = program.end(number)
    if number == signal.SIGINT:
        assert code == 130
        assert "what is not done stays" in program.output
    again = shop("dead", "replay", shop.queue)
    done, _, of, *_ = again.stdout.split()
    assert done == of
    assert 0 < int(done) <= 56
    came += [delivery.body for delivery in shop.came(60 - len(came))]
    assert sorted(map(int, came)) == list(range(60))  # each once: JetStream knows what it has stored


def test_a_broker_that_keeps_none_says_which_do(nats_url: str, tmp_path: Path) -> None:
    for command in (("dead", "list", "orders.bill"), ("queues",)):
        done = eventmicro(tmp_path, *command, "--broker", nats_url)
        assert done.returncode == 2
        assert "keeps no" in done.stderr


def test_without_a_broker_it_is_the_way_of_the_embedded_server_to_keep_events(tmp_path: Path) -> None:
    state = {"EVENTMICRO_STATE_DIR": str(tmp_path)}
    (tmp_path / "idle.py").write_text("from eventmicro import Service\n\nservice = Service('idle')\n")
    with Program(tmp_path, "run", "idle", env=state) as program:
        program.line_with("started an embedded server")
        done = eventmicro(tmp_path, "queues", env=state)
        assert (done.returncode, done.stderr) == (0, "no queues\n")
        done = eventmicro(tmp_path, "dead", "list", "orders.bill", env=state)
        assert (done.returncode, "no queue dead.orders.bill on jetstream://" in done.stderr) == (2, True)
