"""Times as a person writes them: `2h` ago, or `2026-05-01T12:00`."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer

Since = Annotated[
    str | None,
    typer.Option(
        metavar="TIME",
        help="First what the broker has kept since then: 90s, 30m, 2h or 7d ago, or 2026-05-01T12:00.",
        show_default=False,
    ),
]
_AGO = re.compile(r"(\d+(?:\.\d+)?)([smhd])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


def read_moment(text: str | None, option: str) -> datetime | None:
    """`2h`, so long ago, or a time as `2026-05-01T12:00`, here where it names no zone; said by this option.

    Raises:
        typer.BadParameter: it is neither.
    """
    if text is None:
        return None
    try:
        if ago := _AGO.fullmatch(text):
            return datetime.now(UTC) - timedelta(**{_UNITS[ago[2]]: float(ago[1])})
        return datetime.fromisoformat(text).astimezone()
    except (ValueError, OverflowError):
        wrong = f"{text!r}: write how long ago, as 90s, 30m, 2h or 7d, or 2026-05-01T12:00"
        raise typer.BadParameter(wrong, param_hint=f"'{option}'") from None
