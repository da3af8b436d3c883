"""Versions after semver.org, and ranges of them."""

from __future__ import annotations

import pytest

from eventmicro import UsageError
from eventmicro.discovery.versions import Range, Version, version_of

# The order that semver.org itself gives, and numbers that a string sort puts wrong.
ORDERED = [
    "1.0.0-alpha",
    "1.0.0-alpha.1",
    "1.0.0-alpha.beta",
    "1.0.0-beta",
    "1.0.0-beta.2",
    "1.0.0-beta.11",
    "1.0.0-rc.1",
    "1.0.0",
    "1.9.0",
    "1.10.0",
    "2.0.0",
]

RANGES = [
    ("1.2.3", "1.2.3 1.2.3+build.7", "1.2.4 1.2.2 1.2.3-rc.1"),
    ("1.2", "1.2.0 1.2.7", "1.3.0 1.1.9"),
    ("1", "1.0.0 1.9.9", "2.0.0 0.9.0"),
    ("^1.2.3", "1.2.3 1.9.0", "2.0.0 1.2.2 2.0.0-rc.1"),
    ("^0.2.3", "0.2.3 0.2.9", "0.3.0 0.2.2"),
    ("^0.0.3", "0.0.3", "0.0.4"),
    ("^0.0", "0.0.9", "0.1.0"),
    ("^0", "0.9.9", "1.0.0"),
    ("~1.2.3", "1.2.3 1.2.9", "1.3.0"),
    ("~1", "1.9.0", "2.0.0"),
    (">=1.2, <3", "1.2.0 2.9.9", "3.0.0 1.1.9"),
    (">=1.2 <3", "1.2.0 2.9.9", "3.0.0 1.1.9"),
    ("<=1.2", "1.2.9 0.1.0", "1.3.0"),
    ("<=1.2.3", "1.2.3", "1.2.4"),
    (">1.2", "1.3.0", "1.2.5"),
    (">1.2.3", "1.2.4", "1.2.3"),
    ("= 1.2.3", "1.2.3", "1.2.4"),
    ("^1 || ^3", "1.5.0 3.1.0", "2.0.0"),
    ("*", "0.0.1 9.9.9", "1.0.0-rc.1"),
    ("1.0.0-rc.1", "1.0.0-rc.1", "1.0.0 1.0.0-rc.2 1.0.0-rc.1.1"),
    (">=1.0.0-rc.1", "1.0.0-rc.2 1.0.0 1.1.0", "1.0.1-rc.1 1.0.0-beta"),
]


def test_versions_stand_in_semvers_order() -> None:
    mixed = ORDERED[1::2] + ORDERED[::2]
    assert sorted(mixed, key=Version) == ORDERED


def test_what_is_built_otherwise_is_the_same_version() -> None:
    assert Version("1.2.3+a") == Version("1.2.3+b")
    assert hash(Version("1.2.3+a")) == hash(Version("1.2.3"))


@pytest.mark.parametrize(
    "text", ["", "1", "1.2", "v1.2.3", "1.2.3.4", "01.2.3", "1.2.3-", "1.2.3-01", "\u0661.2.3", "latest"]
)
def test_what_is_no_version(text: str) -> None:
    assert version_of(text) is None


@pytest.mark.parametrize(("text", "inside", "outside"), RANGES, ids=[text for text, *_ in RANGES])
def test_a_range_holds_what_it_says(text: str, inside: str, outside: str) -> None:
    versions = Range(text)
    assert [version for version in inside.split() if Version(version) not in versions] == []
    assert [version for version in outside.split() if Version(version) in versions] == []


@pytest.mark.parametrize("text", ["", " ", "abc", "^", "^^1", "1.2.3.4", ">= ", "1.2-beta", "1 ||", "v1", ">=1,,<x"])
def test_what_is_no_range_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match=r"write '1\.2\.3'"):
        Range(text)
