"""What is said of a release: its version, once, its changes, with a day, and what they ask of those who upgrade."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import date
from typing import Any

from tests.release.archives import ROOT, pyproject

SECTION = re.compile(r"^## \[(.*?)\](?: - (\S+))?.*\n((?:(?!## ).*\n?)*)", re.MULTILINE)
# What stands under [project.urls], as an index shows it.
URLS = ("Homepage", "Documentation", "Repository", "Changelog", "Issues")


def version() -> str:
    """The version, which stands in pyproject.toml alone."""
    said: str = pyproject()["project"]["version"]
    return said


def wrong_in_changelog(text: str, version: str, today: date) -> Iterator[str]:
    """What hinders a release of a version: its section is not there, is empty, has no day, or another one is above."""
    sections = SECTION.findall(text)
    released = [each for each in sections if each[0] != "Unreleased"]
    if not released or released[0][0] != version:
        yield f"CHANGELOG.md: write `## [{version}] - {today}` above the changes of this release"
    elif not released[0][2].strip():
        yield f"CHANGELOG.md: nothing stands below [{version}]: say what is new"
    for name, day, _ in released:
        if wrong := wrong_in_day(day, today):
            yield f"CHANGELOG.md: [{name}] {wrong}: write `## [{name}] - {today}`"
    if any(name == "Unreleased" and changes.strip() for name, _, changes in sections):
        yield f"CHANGELOG.md: what stands below [Unreleased] is in this release: move it to [{version}]"


def wrong_in_day(day: str, today: date) -> str:
    """What is wrong with the day of a section; empty where nothing is."""
    if not day:
        return "has no day"
    try:
        return f"has a day that is to come, {day}" if date.fromisoformat(day) > today else ""
    except ValueError:
        return f"has the day {day}, which is none"


def wrong_in_upgrading(page: str, version: str) -> Iterator[str]:
    """Whether docs/stability.md says nothing to those who upgrade to it; a patch asks nothing of them."""
    if version.endswith(".0") and f"To **{version}**" not in page.partition("\n## Upgrading\n")[2]:
        yield (
            f"docs/stability.md: say below *Upgrading* what one does who comes to it, in a line `To **{version}** …`; "
            "where there is nothing to do, say that"
        )


def wrong_in_pin(page: str, version: str) -> Iterator[str]:
    """Whether docs/stability.md advises users to pin another version than this one and its patches."""
    major, minor, *_ = (int(number) for number in re.findall(r"\d+", version))
    pin = f"eventmicro>={major}.{minor},<{f'0.{minor + 1}' if major == 0 else major + 1}"
    if f"`{pin}`" not in page:
        yield f"docs/stability.md: advise to pin `{pin}`, as SINCE in eventmicro/cli/projects/plan.py has to"


def wrong_in_words() -> list[str]:
    changelog, page = ROOT / "CHANGELOG.md", ROOT / "docs" / "stability.md"
    return [
        *wrong_in_changelog(changelog.read_text(), version(), date.today()),
        *wrong_in_upgrading(page.read_text(), version()),
        *wrong_in_pin(page.read_text(), version()),
    ]


def advice(project: Mapping[str, Any]) -> Iterator[str]:
    """What is no mistake, and is better known before others read it."""
    if "urls" not in project:
        yield (
            "pyproject.toml has no [project.urls], as the project has no public address: on an index nobody finds the "
            f"sources, and the links of README.md lead nowhere. When it has one, write {', '.join(URLS)}"
        )
    if not project["version"].startswith("0.") and any("Alpha" in each for each in project["classifiers"]):
        yield f"pyproject.toml calls {project['version']} an alpha, in its classifier `Development Status`"
