"""The wheel holds our packages and nothing else, and what is installed from it works."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import eventmicro
from tests.release.archives import pyproject, tracked, wrong_in_metadata, wrong_in_sdist, wrong_in_wheel
from tests.release.words import version

ROOT = Path(__file__).parent.parent

SMOKE = """
import asyncio
from pydantic import BaseModel
import eventmicro, eventmicro_schemas
from eventmicro import Client, Service

class Number(BaseModel):
    value: int

service = Service("smoke", broker="memory://")

@service.rpc
async def double(request: Number) -> Number:
    return Number(value=request.value * 2)

async def main():
    async with service, Client("memory://") as client:
        print((await client.call("smoke.double", Number(value=21), Number)).value)

asyncio.run(main())
print(eventmicro.__file__)
print("Nats-Service-Error" in eventmicro_schemas.text("v1/error.schema.json"))
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("wheel"), "wheel")


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("sdist"), "sdist")


def build(folder: Path, kind: str) -> Path:
    if importlib.util.find_spec("hatchling") is None:
        pytest.skip("hatchling is not installed")
    command = [sys.executable, "-m", "hatchling", "build", "-t", kind, "-d", str(folder)]
    environment = os.environ | {"SOURCE_DATE_EPOCH": "1700000000"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (built,) = folder.glob("eventmicro-*")
    return built


@pytest.fixture(scope="module")
def kept() -> set[str]:
    """The files of the repository."""
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        pytest.skip("this is no clone of the repository")
    return tracked()


def names(wheel: Path) -> list[str]:
    with zipfile.ZipFile(wheel) as archive:
        return archive.namelist()


def test_every_top_level_name_is_ours(wheel: Path) -> None:
    tops = {name.partition("/")[0] for name in names(wheel)}
    assert {"eventmicro", "eventmicro_nats", "eventmicro_schemas"} <= tops
    assert [top for top in tops if not top.startswith("eventmicro")] == []


def test_every_package_says_that_it_is_typed(wheel: Path) -> None:
    packages = {name.partition("/")[0] for name in names(wheel) if name.endswith("/__init__.py")}
    assert {name.partition("/")[0] for name in names(wheel) if name.endswith("/py.typed")} == packages


def test_it_holds_the_schemas_the_licence_and_no_tests_or_caches(wheel: Path) -> None:
    assert "eventmicro_schemas/v1/error.schema.json" in names(wheel)
    assert [name for name in names(wheel) if ".dist-info/" in name and name.endswith("LICENSE")]
    ours = [name for name in names(wheel) if not name.endswith(".jinja")]  # which are those of a user's new project
    assert [name for name in ours if "__pycache__" in name or "/tests/" in name or name.endswith(".pyc")] == []


def test_every_module_of_the_checkout_is_in_it(wheel: Path) -> None:
    here = {
        path.relative_to(base).as_posix()
        for base, package in (
            (ROOT, "eventmicro"),
            (ROOT / "brokers", "eventmicro_nats"),
            (ROOT / "schemas", "eventmicro_schemas"),
        )
        for path in (base / package).rglob("*.py")
    }
    assert here <= set(names(wheel))


def test_what_is_installed_from_it_makes_a_call(wheel: Path, tmp_path: Path) -> None:
    target = tmp_path / "site"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(target)
    environment = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "EVENTMICRO_BROKER")}
    done = subprocess.run(
        [sys.executable, "-c", SMOKE],
        cwd=tmp_path,
        env=environment | {"PYTHONPATH": str(target)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    number, place, schema = done.stdout.split("\n")[:3]
    assert (number, schema) == ("42", "True")
    assert Path(place).is_relative_to(target)


def test_the_wheel_holds_what_the_repository_keeps_of_the_packages(wheel: Path, kept: set[str]) -> None:
    assert list(wrong_in_wheel(wheel, kept)) == []


def test_the_sdist_holds_what_the_repository_keeps(sdist: Path, kept: set[str]) -> None:
    assert list(wrong_in_sdist(sdist, kept)) == []


def test_what_is_built_again_is_the_same(wheel: Path, sdist: Path, tmp_path: Path) -> None:
    for kind, before in (("wheel", wheel), ("sdist", sdist)):
        assert build(tmp_path / kind, kind).read_bytes() == before.read_bytes()


def test_what_is_too_much_or_too_little_in_a_wheel_is_named(wheel: Path, kept: set[str], tmp_path: Path) -> None:
    spoilt = tmp_path / wheel.name
    left_out = ("eventmicro_nats/py.typed", "eventmicro/cli/__init__.py")
    with zipfile.ZipFile(wheel) as whole, zipfile.ZipFile(spoilt, "w") as archive:
        for name in whole.namelist():
            if name not in left_out and not name.endswith("/LICENSE"):
                archive.writestr(name, whole.read(name).replace(b"\nVersion: ", b"\nVersion: 9"))
        archive.writestr("tests/test_stray.py", "")
    said = list(wrong_in_wheel(spoilt, kept))
    assert said[:3] == [
        "tests/test_stray.py does not belong there",
        "eventmicro/cli/__init__.py is missing",
        "eventmicro_nats/py.typed is missing",
    ]
    assert "console_scripts: eventmicro: there is no eventmicro/cli" in said
    assert "LICENSE is not in it" in said
    assert [each for each in said if each.startswith("it is of version 9")]


def test_the_version_stands_in_one_place(kept: set[str]) -> None:
    assert eventmicro.__version__ == importlib.metadata.version("eventmicro")
    code = [name for name in kept if name.startswith("eventmicro/") and name.endswith(".py")]
    assert [name for name in code if f'"{version()}"' in (ROOT / name).read_text()] == []


def test_all_has_each_extra_of_users_but_two_that_are_asked_for_by_their_names() -> None:
    extras = pyproject()["project"]["optional-dependencies"]
    (everything,) = extras["all"]
    named = set(everything.removeprefix("eventmicro[").removesuffix("]").split(","))
    assert set(extras) - named == {"all", "brotli", "kerberos", "demo", "dev", "site", "release"}
    assert named <= set(extras)


def test_metadata_that_the_standard_forbids_are_named(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        described = archive.read(f"eventmicro-{version()}.dist-info/METADATA")
    (said,) = wrong_in_metadata(described.replace(b"Metadata-Version: ", b"Metadata-Version: 9"), {"LICENSE"})
    assert "is not a valid metadata version" in said
