"""How dead letters look in a terminal, and for programs."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from eventmicro.cli.bodies import readable
from eventmicro.cli.records import print_json, print_table
from eventmicro.cli.show import as_body, as_json_form, print_line, printable
from eventmicro.events.letters import DeadLetter

COLUMNS = ("TIME", "SUBJECT", "ATTEMPTS", "REASON", "ID")


def print_rows(found: Sequence[DeadLetter]) -> None:
    """A line for each."""
    if found:
        print_table(COLUMNS, [_row(letter) for letter in found])


def _row(letter: DeadLetter) -> tuple[str, ...]:
    return _time(letter), letter.subject, str(letter.attempts or ""), letter.reason, letter.id


def _time(letter: DeadLetter) -> str:
    return "" if letter.time is None else letter.time.astimezone().isoformat(" ", "seconds")


def print_counts(found: Sequence[DeadLetter], *, json: bool) -> None:
    """How many there are of each subject and reason."""
    counts = Counter((letter.subject, letter.reason) for letter in found).most_common()
    if json:
        print_json([{"count": n, "subject": subject, "reason": reason} for (subject, reason), n in counts])
    elif counts:
        print_table(("COUNT", "SUBJECT", "REASON"), [(str(n), subject, reason) for (subject, reason), n in counts])


def print_all(found: Sequence[DeadLetter], form: Callable[[DeadLetter], str]) -> None:
    """Each in a form, for as long as somebody reads."""
    for letter in found:
        if not print_line(form(letter)):
            return


def as_json(letter: DeadLetter) -> str:
    """A letter in a line for programs."""
    form: dict[str, Any] = {
        "id": letter.id,
        "subject": letter.subject,
        "queue": letter.queue,
        "reason": letter.reason,
        "attempts": letter.attempts,
        "time": None if letter.time is None else letter.time.isoformat(),
        "headers": dict(letter.headers),
    }
    return json.dumps(form | as_json_form(readable(letter.delivery).body))


def as_text(letter: DeadLetter) -> str:
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
    one_line_each = (line.replace("\n", "\\n") for line in lines)
    return printable("\n".join((*one_line_each, as_body(readable(letter.delivery).body), "")))
