"""The parts of a JSON object or list, each as the text that it is, so that no number changes."""

from __future__ import annotations

import json
import re

_space = re.compile(r"[ \t\r\n]*").match
_read_value = json.JSONDecoder().raw_decode


def members_of(text: str) -> dict[str, str]:
    """The members of a JSON object, each as the text that it is.

    Raises:
        ValueError: it is no object.
    """
    parts = cut(text, "{}", ",:")
    names = [json.loads(part) for part in parts[::2]]
    if len(parts) % 2 or not all(isinstance(name, str) for name in names):
        raise ValueError("no JSON object")
    return dict(zip(names, parts[1::2], strict=True))


def items_of(text: str) -> list[str]:
    """The items of a JSON list, likewise.

    Raises:
        ValueError: it is no list.
    """
    return cut(text, "[]", ",")


def cut(text: str, brackets: str, signs: str) -> list[str]:
    """The values between brackets, each as the text that it is.

    Args:
        signs: what stands behind them, in turn; beginning with what stands behind the second.

    Raises:
        ValueError: it is something else, or more follows behind it.
    """
    opening, closing = brackets[0], brackets[1]
    at = _skip(text, 0, opening)
    parts: list[str] = []
    if text[at : at + 1] == closing:
        at = _skip(text, at, closing)
    else:
        sign = ""
        while sign != closing:
            _, end = _read_value(text, at)
            parts.append(text[at:end])
            end = _skip(text, end, "")
            sign = closing if text[end : end + 1] == closing else signs[len(parts) % len(signs)]
            at = _skip(text, end, sign)
    if at != len(text):
        raise ValueError("more follows behind it")
    return parts


def _skip(text: str, at: int, sign: str) -> int:
    """Where it goes on behind spaces, a sign, and spaces again."""
    at = _space(text, at).end()  # type: ignore[union-attr]
    if not text.startswith(sign, at):
        raise ValueError(f"no {sign!r} where one is expected")
    return _space(text, at + len(sign)).end()  # type: ignore[union-attr]
