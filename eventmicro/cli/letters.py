"""How dead letters look in a terminal, and for programs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from eventmicro.cli.bodies import readable
from eventmicro.cli.output import Output, print_records
from eventmicro.cli.records import print_table
from eventmicro.cli.show import as_body, as_json_form, one_line, print_line
from eventmicro.events.letters import DeadLetter

COLUMNS = ("TIME", "SUBJECT", "ATTEMPTS", "REASON", "ID")


def print_rows(form: Output, found: Sequence[DeadLetter]) -> None:
    """A line of a table for each, or all of each for programs."""
    print_records(form, _forms(found), lambda: print_table(COLUMNS, [_row(letter) for letter in found]))


def print_whole(form: Output, found: Sequence[DeadLetter]) -> None:
    """Each as a whole, for as long as somebody reads."""
    print_records(form, _forms(found), lambda: _print_texts(found))


def _print_texts(found: Sequence[DeadLetter]) -> None:
    for letter in found:
        if not print_line(_as_text(letter)):
            return


def _row(letter: DeadLetter) -> tuple[str, ...]:
    return _time(letter), letter.subject, str(letter.attempts or ""), letter.reason, letter.id


def _time(letter: DeadLetter) -> str:
    return "" if letter.time is None else letter.time.astimezone().isoformat(" ", "seconds")


def print_counts(form: Output, found: Sequence[DeadLetter]) -> None:
    """How many there are of each subject and reason."""
    counts = Counter((letter.subject, letter.reason) for letter in found).most_common()
    rows = [(str(n), subject, reason) for (subject, reason), n in counts]
    forms = [{"count": n, "subject": subject, "reason": reason} for (subject, reason), n in counts]
    print_records(form, forms, lambda: print_table(("COUNT", "SUBJECT", "REASON"), rows))


def _forms(found: Sequence[DeadLetter]) -> list[dict[str, Any]]:
    return [_as_form(letter) for letter in found]


def _as_form(letter: DeadLetter) -> dict[str, Any]:
    """A letter for programs."""
    form: dict[str, Any] = {
        "id": letter.id,
        "subject": letter.subject,
        "queue": letter.queue,
        "reason": letter.reason,
        "attempts": letter.attempts,
        "time": None if letter.time is None else letter.time.isoformat(),
        "headers": dict(letter.headers),
    }
    return form | as_json_form(readable(letter.delivery).body)


def _as_text(letter: DeadLetter) -> str:
    """A letter for a person."""
    about = {
        "id": letter.id,
        "time": _time(letter),
        "subject": letter.subject,
        "queue": letter.queue,
        "attempts": str(letter.attempts),
        "reason": letter.reason,
    }
    lines = [f"{name:10}{text}" for name, text in about.items()]
    lines += [f"  {name}: {text}" for name, text in letter.headers.items()]
    return "\n".join((*map(one_line, lines), as_body(readable(letter.delivery).body), ""))
