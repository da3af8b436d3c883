"""What `make release` refuses, each time with what is to be done: on small trees made for that."""

from __future__ import annotations

import re
import shutil
import subprocess
from datetime import date
from pathlib import Path

import pytest

from tests.release.state import is_clone, last_commit, wrong_in_state
from tests.release.words import advice, version, wrong_in_changelog, wrong_in_pin, wrong_in_upgrading

ROOT = Path(__file__).parent.parent
TODAY = date(2026, 1, 2)
CHANGELOG = "# Changelog\n\n## [Unreleased]\n\n## [1.0.0] - 2026-01-02\n\n- a\n\n## [0.9.0] - 2025-01-02\n\n- b\n"
LATER = "2026-01-03"
MEND = "write `## [1.0.0] - 2026-01-02`"


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("", "", []),
        ("## [Unreleased]\n\n", "", []),
        ("## [1.0.0]", "## [0.9.9]", [f"CHANGELOG.md: {MEND} above the changes of this release"]),
        ("- a\n\n", "", ["CHANGELOG.md: nothing stands below [1.0.0]: say what is new"]),
        (" - 2026-01-02", "", [f"CHANGELOG.md: [1.0.0] has no day: {MEND}"]),
        ("0] - 2026-01-02", "0] - 2026-1-2", [f"CHANGELOG.md: [1.0.0] has the day 2026-1-2, which is none: {MEND}"]),
        (
            "0] - 2026-01-02",
            f"0] - {LATER}",
            [f"CHANGELOG.md: [1.0.0] has a day that is to come, {LATER}: {MEND}"],
        ),
        (
            "[Unreleased]\n",
            "[Unreleased]\n\n- c\n",
            ["CHANGELOG.md: what stands below [Unreleased] is in this release: move it to [1.0.0]"],
        ),
        (
            CHANGELOG,
            "# Changelog\n\n## [Unreleased]\n\n- a\n",
            [
                f"CHANGELOG.md: {MEND} above the changes of this release",
                "CHANGELOG.md: what stands below [Unreleased] is in this release: move it to [1.0.0]",
            ],
        ),
    ],
)
def test_a_changelog_is_refused_with_what_to_write(old: str, new: str, said: list[str]) -> None:
    assert list(wrong_in_changelog(CHANGELOG.replace(old, new, 1), "1.0.0", TODAY)) == said


def test_upgrading_is_described_for_each_version_that_is_no_patch() -> None:
    page = "# Stability\n\nTo **0.3.0** nothing\n\n## Upgrading\n\nTo **0.2.0** there is nothing to do.\n"
    assert list(wrong_in_upgrading(page, "0.2.0")) == list(wrong_in_upgrading(page, "0.2.1")) == []
    (said,) = wrong_in_upgrading(page, "0.3.0")
    assert "below *Upgrading*" in said
    assert "a line `To **0.3.0** …`" in said


@pytest.mark.parametrize(("version", "pin"), [("0.2.3", ">=0.2,<0.3"), ("1.4.0", ">=1.4,<2")])
def test_the_pin_that_is_advised_is_that_of_the_version(version: str, pin: str) -> None:
    assert list(wrong_in_pin(f"Pin `eventmicro{pin}`.", version)) == []
    (said,) = wrong_in_pin("Pin `eventmicro>=0.1,<0.2`.", version)
    assert f"advise to pin `eventmicro{pin}`" in said


def test_this_version_says_what_one_does_who_comes_to_it() -> None:
    page = (ROOT / "docs" / "stability.md").read_text()
    assert [*wrong_in_upgrading(page, version()), *wrong_in_pin(page, version())] == []


@pytest.fixture
def clone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository with one commit."""
    if shutil.which("git") is None:
        pytest.skip("git is not installed")
    for name in ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "a").write_text("a")
    for words in ("init -q", "config user.name a", "config user.email a@b", "add a", "commit -qm a"):
        run(tmp_path, words)
    return tmp_path


def run(folder: Path, words: str) -> None:
    subprocess.run(["git", *words.split()], cwd=folder, check=True, capture_output=True)


def test_what_is_in_no_commit_is_refused(clone: Path) -> None:
    assert list(wrong_in_state(clone, "1.0.0")) == []
    (clone / "a").write_text("b")
    (clone / "new").write_text("")
    mend = "commit it, or put it away by `git stash --include-untracked`"
    assert list(wrong_in_state(clone, "1.0.0")) == ["in no commit:  M a", "in no commit: ?? new", mend]
    run(clone, "stash --include-untracked")
    assert list(wrong_in_state(clone, "1.0.0")) == []


def test_a_version_that_is_released_already_is_refused_but_where_it_is_this_commit(clone: Path) -> None:
    run(clone, "tag -a v1.0.0 -m v1.0.0")
    assert list(wrong_in_state(clone, "1.0.0")) == []
    run(clone, "commit --allow-empty -qm b")
    (said,) = wrong_in_state(clone, "1.0.0")
    assert re.fullmatch(
        "1.0.0 is released already: the tag v1.0.0 is at another commit, [0-9a-f]{7}; "
        "write the next version into pyproject.toml",
        said,
    )
    assert list(wrong_in_state(clone, "1.0.1")) == []


def test_what_is_no_clone_is_told_from_one(clone: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    elsewhere = tmp_path_factory.mktemp("unpacked")
    (clone / "within").mkdir()
    assert [is_clone(each) for each in (clone, clone / "within", elsewhere)] == [True, False, False]
    assert last_commit(clone).isdigit()
    assert last_commit(elsewhere) == ""


def test_what_is_better_known_is_said_and_hinders_nothing() -> None:
    project = {"version": "0.1.0", "classifiers": ["Development Status :: 3 - Alpha"]}
    (said,) = advice(project)
    assert "has no [project.urls]" in said
    assert "write Homepage, Documentation, Repository, Changelog, Issues" in said
    assert list(advice(project | {"urls": {}})) == []
    (said,) = advice(project | {"urls": {}, "version": "1.0.0"})
    assert said == "pyproject.toml calls 1.0.0 an alpha, in its classifier `Development Status`"
