"""The checkout that a release is built from: one commit, which nobody has released before as something else."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path


def git(folder: Path, *words: str) -> str:
    """What git says; empty where it refuses."""
    done = subprocess.run(["git", *words], cwd=folder, capture_output=True, text=True, check=False)
    return done.stdout.rstrip() if done.returncode == 0 else ""


def is_clone(folder: Path) -> bool:
    return git(folder, "rev-parse", "--show-toplevel") == str(folder.resolve())


def last_commit(folder: Path) -> str:
    """The time of the last commit, which files in the archives have: it makes two builds of one commit the same."""
    return git(folder, "log", "-1", "--format=%ct")


def wrong_in_state(folder: Path, version: str) -> Iterator[str]:
    """Why nobody could build this release again, or not by its name."""
    uncommitted = git(folder, "status", "--porcelain").splitlines()
    yield from (f"in no commit: {line}" for line in uncommitted)
    if uncommitted:
        yield "commit it, or put it away by `git stash --include-untracked`"
    tagged = git(folder, "rev-parse", "--verify", "--quiet", f"v{version}^{{commit}}")
    if tagged and tagged != git(folder, "rev-parse", "HEAD"):
        yield (
            f"{version} is released already: the tag v{version} is at another commit, {tagged[:7]}; "
            "write the next version into pyproject.toml"
        )
