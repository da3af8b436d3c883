"""Generated code runs with every version of its library that pyproject.toml allows."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
GENERATED = sorted(
    path
    for path in ROOT.rglob("*_pb2.py")
    if not any(part.startswith(".") or part == "build" for part in path.relative_to(ROOT).parts)
)


def allowed_protobuf() -> tuple[tuple[int, ...], int]:
    """The oldest version of protobuf that the extra allows, and the first major one that it does not."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    (requirement,) = project["optional-dependencies"]["protobuf"]
    found = re.fullmatch(r"protobuf>=([\d.]+),<(\d+)", requirement)
    assert found is not None, requirement
    return tuple(int(part) for part in found[1].split(".")), int(found[2])


def needed_protobuf(path: Path) -> tuple[int, ...]:
    """The version of the runtime that this file refuses to run below."""
    found = re.search(r"ValidateProtobufRuntimeVersion\(\s*[\w.]+,\s*(\d+),\s*(\d+),\s*(\d+),", path.read_text())
    assert found is not None, f"{path} does not say what it needs"
    return tuple(int(part) for part in found.groups())


def test_there_is_generated_code_to_check() -> None:
    assert {path.name for path in GENERATED} == {"weather_pb2.py", "health_pb2.py", "popular_pb2.py", "options_pb2.py"}


@pytest.mark.parametrize("path", GENERATED, ids=lambda path: path.name)
def test_generated_protobuf_code_runs_on_every_protobuf_that_is_allowed(path: Path) -> None:
    oldest, beyond = allowed_protobuf()
    needed = needed_protobuf(path)
    assert needed <= (*oldest, 0, 0)[:3], "generate it by the oldest grpcio-tools that fits: its .proto file says how"
    assert needed[0] >= beyond - 2, "a runtime takes what was generated for its own major version, or the one before"
