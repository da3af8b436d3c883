"""What a wheel and an sdist hold: the files that the repository keeps, and nothing else. By rules, not by a list."""

from __future__ import annotations

import configparser
import subprocess
import tarfile
import tomllib
import zipfile
from collections.abc import Iterator
from email.parser import BytesParser
from pathlib import Path, PurePosixPath
from typing import Any

from packaging.metadata import Metadata

ROOT = Path(__file__).parents[2]
# What is for those who work on the repository itself: hidden files, and programs about other people's products.
LEFT_OUT = ("findings/",)


def pyproject() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


def tracked() -> set[str]:
    """The files that git keeps here, or would with the next commit."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return {name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()}


def wrong_in_wheel(wheel: Path, kept: set[str]) -> Iterator[str]:
    """What a wheel holds too much or too little of, of the files that are kept here."""
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if not name.endswith("/")}
        described = archive.read(next(name for name in names if name.endswith(".dist-info/METADATA")))
        points = archive.read(next(name for name in names if name.endswith("entry_points.txt"))).decode()
    packages = pyproject()["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    wanted = {
        str(PurePosixPath(name).relative_to(PurePosixPath(package).parent))
        for package in packages
        for name in kept
        if name.startswith(f"{package}/")
    }
    held = {name for name in names if ".dist-info/" not in name}
    yield from differences(held, wanted)
    yield from (f"{package} has no py.typed" for package in tops(held) if f"{package}/py.typed" not in held)
    for point, module in entry_points(points):
        if held.isdisjoint((f"{module}.py", f"{module}/__init__.py")):
            yield f"{point}: there is no {module}"
    licences = {PurePosixPath(name).name for name in names if ".dist-info/licenses/" in name}
    yield from wrong_in_metadata(described, licences)


def wrong_in_sdist(sdist: Path, kept: set[str]) -> Iterator[str]:
    """What an sdist holds too much or too little of."""
    with tarfile.open(sdist) as archive:
        top = sdist.name.removesuffix(".tar.gz")
        names = {file.name.removeprefix(f"{top}/") for file in archive.getmembers() if file.isfile()}
        described = archive.extractfile(f"{top}/PKG-INFO")
        assert described is not None
        yield from wrong_in_metadata(described.read(), {name for name in names if "/" not in name})
    wanted = {name for name in kept if not name.startswith((".", *LEFT_OUT))}
    yield from differences(names - {"PKG-INFO", ".gitignore"}, wanted)


def differences(held: set[str], wanted: set[str]) -> Iterator[str]:
    yield from (f"{name} does not belong there" for name in sorted(held - wanted))
    yield from (f"{name} is missing" for name in sorted(wanted - held))


def tops(names: set[str]) -> list[str]:
    return sorted({name.partition("/")[0] for name in names})


def entry_points(text: str) -> Iterator[tuple[str, str]]:
    """Each entry point with the place of its module."""
    points = configparser.ConfigParser(delimiters="=")
    points.read_string(text)
    for group in points.sections():
        yield from (
            (f"{group}: {name}", value.partition(":")[0].replace(".", "/")) for name, value in points[group].items()
        )


def wrong_in_metadata(described: bytes, licences: set[str]) -> Iterator[str]:
    """What the metadata of an archive say that is not by the standard, or is not so."""
    try:
        metadata = Metadata.from_email(described, validate=True)
    except ExceptionGroup as forbidden:
        yield from map(str, forbidden.exceptions)
        return
    said = pyproject()["project"]
    if str(metadata.version) != said["version"]:
        yield f"it is of version {metadata.version}, pyproject.toml says {said['version']}"
    if BytesParser().parsebytes(described).get_payload(decode=True) != (ROOT / "README.md").read_bytes():
        yield "its description is not README.md"
    yield from (f"{file} is not in it" for file in metadata.license_files or ["no licence"] if file not in licences)
