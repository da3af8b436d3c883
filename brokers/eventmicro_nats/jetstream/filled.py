"""What a stream holds that does not only listen: one that is filled by sources or a mirror, or renames what it stores.

The server finds streams by the subjects to which they listen; what these hold is told by how they are made.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from eventmicro.wire import has_wildcards
from eventmicro_nats.connection.subjects import covers

# How many streams may fill one another before nobody looks further.
DEEPEST = 5

Config = Mapping[str, Any]
_is_mapped = re.compile(r"\{\{.*\}\}|\$\d+").search
# Mappings of which one token may become several.
_widens = re.compile(r"\{\{\s*(split|slice)", re.IGNORECASE).search


def origins(config: Config) -> list[dict[str, Any]]:
    """What fills it beside those who publish."""
    mirror = config.get("mirror")
    return [*([mirror] if mirror else []), *(config.get("sources") or ())]


def is_filled(config: Config) -> bool:
    """Whether it may hold other subjects than those to which it listens."""
    return bool(origins(config) or config.get("subject_transform"))


def held(config: Config, others: Mapping[str, Config], depth: int = 0) -> list[str] | None:
    """The subjects, wildcards among them, that it may hold; None where that cannot be known here.

    Args:
        others: the streams of this account, by name.
    """
    found = _stored(config)
    for origin in origins(config):
        comes = _comes(origin, others, depth)
        if comes is None:
            return None
        found += comes
    return found


def _stored(config: Config) -> list[str]:
    """As what it stores what is published to it."""
    subjects = list[str](config.get("subjects") or ())
    source, target = _ends(config.get("subject_transform"))
    if not target:
        return subjects
    return [subject for subject in subjects if not covers(source, subject)] + [pattern(target)]


def _comes(origin: Config, others: Mapping[str, Config], depth: int) -> list[str] | None:
    """What comes from another stream."""
    transforms = [_ends(transform) for transform in origin.get("subject_transforms") or ()]
    if transforms:
        return [pattern(target or source) for source, target in transforms]
    if origin.get("filter_subject"):
        return [origin["filter_subject"]]
    other = None if origin.get("external") else others.get(origin["name"])
    return held(other, others, depth + 1) if other is not None and depth < DEEPEST else None


def _ends(transform: Config | None) -> tuple[str, str]:
    """What it renames, and to what; empty where there is none."""
    if not transform:
        return "", ""
    return transform.get("src") or ">", transform.get("dest") or ""


def pattern(target: str) -> str:
    """All that a renaming may make, as a subject with wildcards."""
    tokens = list[str]()
    for token in target.split("."):
        if _widens(token):
            return ".".join([*tokens, ">"])
        tokens.append("*" if _is_mapped(token) else token)
    return ".".join(tokens)


def renamed(transform: Config | None, subject: str, stored: str) -> bool:
    """Whether a stream with this renaming may store the one subject as the other."""
    source, target = _ends(transform)
    return bool(target) and covers(source, subject) and covers(pattern(target), stored)


def renames(config: Config, subject: str) -> str:
    """As what it stores a subject, with wildcards where that differs; empty where it does as it is."""
    source, target = _ends(config.get("subject_transform"))
    return pattern(target) if target and covers(source, subject) else ""


def may_match(subject: str, patterns: Sequence[str]) -> bool:
    """Whether one of these has something in common with a subject, which may have wildcards, too."""
    return any(_meet(subject.split("."), pattern.split(".")) for pattern in patterns)


def not_taken(subjects: Sequence[str], patterns: Sequence[str]) -> list[str]:
    """Those of many subjects that have nothing in common with any of many patterns."""
    exact, wild = set(patterns), [pattern for pattern in patterns if has_wildcards(pattern)]
    return [
        subject
        for subject in subjects
        if subject not in exact and not may_match(subject, patterns if has_wildcards(subject) else wild)
    ]


def _meet(one: Sequence[str], other: Sequence[str]) -> bool:
    for position in range(max(len(one), len(other))):
        if position >= len(one) or position >= len(other):
            return False
        if ">" in (one[position], other[position]):
            return True
        if one[position] != other[position] and "*" not in (one[position], other[position]):
            return False
    return True
