"""Patterns: which names a topic may have, and which of the cluster's topics a subject with wildcards stands for."""

from __future__ import annotations

import re
from collections.abc import Collection
from functools import lru_cache

LONGEST = 249
_NAME = re.compile(r"[A-Za-z0-9._-]+")


def is_topic(name: str) -> bool:
    """Whether a topic may be called so."""
    return bool(_NAME.fullmatch(name)) and len(name) <= LONGEST and name not in (".", "..")


def as_topic(name: str) -> str:
    """A name with another letter for each that a topic may not have."""
    return re.sub(r"[^A-Za-z0-9._-]", "_", name)


def matches(pattern: str, topic: str) -> bool:
    """Whether a topic is one of those: `*` is one token, a last `>` one or more."""
    return _compiled(pattern).fullmatch(topic) is not None


def choose(pattern: str, topics: Collection[str]) -> tuple[list[str], list[str]]:
    """Those of the cluster's topics that a pattern stands for, and those that it would, if no events waited there.

    Topics in which queues have events wait are none of them: `orders.bill.orders.placed.retry` beside `orders.placed`.
    """
    found = sorted(topic for topic in topics if matches(pattern, topic))
    waiting = [topic for topic in found if _is_waiting_room(topic, topics)]
    return [topic for topic in found if topic not in waiting], waiting


def as_name(pattern: str) -> str:
    """A pattern as a part of a topic's name."""
    return pattern.replace("*", "-").replace(">", "--")


def _is_waiting_room(topic: str, topics: Collection[str]) -> bool:
    if not topic.endswith(".retry"):
        return False
    tokens = topic.removesuffix(".retry").split(".")
    return any(_names_a_subject(".".join(tokens[at:]), topics) for at in range(len(tokens)))


def _names_a_subject(name: str, topics: Collection[str]) -> bool:
    return name in topics or "-" in name.split(".") or name.endswith("--")


@lru_cache(maxsize=256)
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(re.escape(pattern).replace(r"\*", "[^.]+").replace(">", ".+"))
