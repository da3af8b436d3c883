"""Builds a release in build/release/dist and says whether it may go out. It uploads nothing."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

from tests.release import pythons
from tests.release.archives import ROOT, pyproject, tracked, wrong_in_sdist, wrong_in_wheel
from tests.release.state import is_clone, last_commit, wrong_in_state
from tests.release.words import advice, version, wrong_in_words
from tests.wire.released import broken_promises, not_yet_released, on_record, released

FOLDER = ROOT / "build" / "release"
DIST = FOLDER / "dist"
ENVIRONMENT = os.environ | {"SOURCE_DATE_EPOCH": last_commit(ROOT)}


def run(*command: str | Path) -> None:
    done = subprocess.run(command, cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise AssertionError(f"{' '.join(map(str, command))}\n{done.stdout}{done.stderr}")


def build(folder: Path, *only: str) -> tuple[Path, Path]:
    """Wheel and sdist; the wheel is built from the sdist, or, with `--wheel`, from what stands here."""
    shutil.rmtree(folder, ignore_errors=True)
    run(sys.executable, "-m", "build", "--outdir", folder, *only, ROOT)
    return archives(folder)


def archives(folder: Path) -> tuple[Path, Path]:
    return folder / f"eventmicro-{version()}-py3-none-any.whl", folder / f"eventmicro-{version()}.tar.gz"


def wrong_in_building() -> list[str]:
    build(DIST)
    return []


def wrong_on_record() -> list[str]:
    """What the wire records lack of the promise that they are only added to."""
    now, before = on_record(), released()
    new = [f"{name} is in no release yet" for name in not_yet_released(now, before)]
    mend = ["write them down by `.venv/bin/python -m tests.wire.released`"] if new else []
    return [*broken_promises(now, before), *new, *mend]


def wrong_in_archives(wheel: Path, sdist: Path) -> list[str]:
    kept = tracked()
    wrong = [f"{wheel.name}: {each}" for each in wrong_in_wheel(wheel, kept)]
    return wrong + [f"{sdist.name}: {each}" for each in wrong_in_sdist(sdist, kept)]


def wrong_in_description(wheel: Path, sdist: Path) -> list[str]:
    run(sys.executable, "-m", "twine", "check", "--strict", wheel, sdist)
    return []


def not_the_same(wheel: Path, sdist: Path) -> list[str]:
    """The archives of which a second build has other bytes, or a wheel that is built without the sdist."""
    again = build(FOLDER / "again")
    straight, _ = build(FOLDER / "straight", "--wheel")
    pairs = [*zip((wheel, sdist), again, strict=True), (wheel, straight)]
    return [f"{other} is not the same as {one}" for one, other in pairs if one.read_bytes() != other.read_bytes()]


def wrong_on(number: str, wheel: Path, sdist: Path) -> list[str] | None:
    """What goes wrong on a Python; None: it is not here."""
    python = pythons.find(number)
    if python is None:
        return None
    return list(pythons.run_demo(python, wheel.parent, sdist, version(), FOLDER / f"python{number}"))


def check(what: str, wrong: Callable[[], Iterable[str] | None]) -> bool:
    """Say what is tried, and what came of it."""
    print(f"{what} ... ", end="", flush=True)
    try:
        found = wrong()
    except Exception as error:  # whatever it is, the other checks are made, too
        found = [str(error)]
    if found is None:
        print("skipped: not on this machine")
        return True
    print("\n  ".join(("no", *found)) if found else "yes")
    return not found


def main() -> int:
    if not is_clone(ROOT):
        print(f"A release is built from a clone, which says what belongs to it and when it was made: {ROOT} is none.")
        return 1
    print(f"eventmicro {version()}")
    shutil.rmtree(FOLDER, ignore_errors=True)
    passed = [
        check("the checkout is one commit, and its version is new", lambda: list(wrong_in_state(ROOT, version()))),
        check("the changelog has this version, with a day, and upgrading is described", wrong_in_words),
        check("what is on record of the wire is as it was released", wrong_on_record),
    ]
    if not check("wheel and sdist are built", wrong_in_building):
        return refuse()
    wheel, sdist = archives(DIST)
    passed += [
        check("wheel and sdist hold what they should", lambda: wrong_in_archives(wheel, sdist)),
        check("an index takes the description", lambda: wrong_in_description(wheel, sdist)),
        check("built again, and from the sdist, they are the same", lambda: not_the_same(wheel, sdist)),
    ]
    for number in pythons.supported():
        what = f"on Python {number} it is installed by its name and runs the demo"
        passed.append(check(what, partial(wrong_on, number, wheel, sdist)))
    for each in advice(pyproject()["project"]):
        print(f"note: {each}.")
    if not all(passed):
        return refuse()
    keep_only(DIST)
    print(NEXT.format(version=version(), files=f"{wheel.relative_to(ROOT)} {sdist.relative_to(ROOT)}"))
    return 0


def refuse() -> int:
    where = FOLDER.relative_to(ROOT)
    print(f"It is no release yet: mend what is said above, and run it again. What was tried stands in {where}.")
    return 1


def keep_only(folder: Path) -> None:
    """Leave what is to be uploaded, and none of the venvs and builds by which it was tried."""
    for each in folder.parent.iterdir():
        if each != folder:
            shutil.rmtree(each)


NEXT = """\
Nothing was uploaded. Where the tests of this commit have passed, too (`make lint test`), it is released by:
  git tag -a v{version} -m v{version} && git push origin v{version}
  .venv/bin/twine upload {files}
Then write the next version into pyproject.toml, and `## [Unreleased]` into CHANGELOG.md."""


if __name__ == "__main__":
    sys.exit(main())
