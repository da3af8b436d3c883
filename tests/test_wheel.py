"""The wheel holds our packages and nothing else, and what is installed from it works."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

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
    if importlib.util.find_spec("hatchling") is None:
        pytest.skip("hatchling is not installed")
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (built,) = folder.glob("eventmicro-*.whl")
    return built


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
    assert [name for name in names(wheel) if "__pycache__" in name or "/tests/" in name or name.endswith(".pyc")] == []


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
