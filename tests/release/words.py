"""What is said of a release: its version, once, and its changes, with a day."""

from __future__ import annotations

import re
from collections.abc import Iterator

from tests.release.archives import ROOT, pyproject


def version() -> str:
    """The version, which stands in pyproject.toml alone."""
    said: str = pyproject()["project"]["version"]
    return said


def wrong_in_changelog(text: str, version: str) -> Iterator[str]:
    """What hinders a release of a version: its section is not there, has no day, or another one is above it."""
    sections = re.findall(r"^## \[(.*?)\](?: - (\d{4}-\d\d-\d\d))?(.*)$", text, re.MULTILINE)
    released = [(name, day) for name, day, _ in sections if name != "Unreleased"]
    if not released or released[0][0] != version:
        yield f"CHANGELOG.md: write `## [{version}] - YYYY-MM-DD` above the changes of this release"
    yield from (f"CHANGELOG.md: [{name}] has no day" for name, day in released if not day)
    unreleased = re.search(r"^## \[Unreleased\]\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    if unreleased and unreleased[1].strip():
        yield f"CHANGELOG.md: what stands below [Unreleased] is in this release: move it to [{version}]"


def wrong_in_words() -> list[str]:
    return list(wrong_in_changelog((ROOT / "CHANGELOG.md").read_text(), version()))


def advice() -> Iterator[str]:
    """What is no mistake, and is better known before others read it."""
    if "urls" not in pyproject()["project"]:
        yield "pyproject.toml names no [project.urls]: on an index the links of README.md lead nowhere"
