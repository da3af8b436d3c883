"""RabbitMQ's installation with nothing but what the broker itself needs: it so starts in two thirds of the time.

Most of its start goes into looking for 1,000 modules in 80 folders, two hand-overs between threads a look. Busy waiting
(+sbwt) would halve it on an idle machine, and makes it four times as long on a busy one. 60 of the folders are plugins.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

APPLICATIONS = re.compile(r"applications\W*\[(.*?)\]", re.DOTALL)


def make_home(server: str, folder: Path) -> str:
    """Link what `server`, the path of rabbitmq-server, needs into a folder; the path to start it by there.

    It is `server` itself where that is a script of another kind, which knows where its folders are.
    """
    scripts = Path(server).resolve().parent
    found = {path.name.partition("-")[0]: path for path in (scripts.parent / "plugins").glob("*-*/")}
    if "rabbit" not in found:
        return server
    if not folder.exists():
        shutil.copytree(scripts, folder / scripts.name)  # copies, by whose place they find the rest
        (folder / "escript").symlink_to(scripts.parent / "escript")
        (folder / "plugins").mkdir()
        for name in set(_needed_by("rabbit", found)):
            (folder / "plugins" / found[name].name).symlink_to(found[name])
    return str(folder / scripts.name / Path(server).name)


def _needed_by(name: str, found: dict[str, Path]) -> Iterator[str]:
    """It and the applications that it needs; those that are not found are Erlang's own."""
    if name in found:
        yield name
        about = (found[name] / "ebin" / f"{name}.app").read_text()
        for needed in APPLICATIONS.findall(about):
            for other in re.findall(r"\w+", needed):
                yield from _needed_by(other, found)
