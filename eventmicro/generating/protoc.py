"""protoc, run as a program with our plugin: what it says of a file with errors is passed on in its own words."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

from eventmicro.errors import UsageError

# How long protoc may take, in seconds.
TIMEOUT = 120.0
PLUGIN = "protoc-gen-eventmicro"
BARE_MAPPING = re.compile(r"\b_Mapping(?=[],])")


def generate(files: Sequence[Path], out: Path, roots: Sequence[Path] = ()) -> list[Path]:
    """Write messages, their types, and contracts for the services of `.proto` files; what was written.

    Args:
        files: the `.proto` files.
        out: the folder for what is written, which is made where there is none.
        roots: the folders from which imports are written, and the paths of what is written; default: the current one.

    Raises:
        UsageError: a file has errors, in protoc's words, with file and line; or there is no protoc.
    """
    out.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory() as folder:
        plugin = Path(folder) / PLUGIN
        plugin.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m eventmicro.generating.plugin\n')
        plugin.chmod(0o700)
        made = Path(folder) / "made"
        made.mkdir()
        into = [f"--{kind}_out={made}" for kind in ("python", "pyi", "eventmicro")]
        run(roots, [*into, f"--plugin={PLUGIN}={plugin}", *map(str, files)])
        return [_put(file, out / file.relative_to(made)) for file in sorted(made.rglob("*.py*"))]


def _put(file: Path, place: Path) -> Path:
    text = file.read_text(encoding="utf-8")
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(with_whole_types(text) if file.suffix == ".pyi" else text, encoding="utf-8")
    return place


def with_whole_types(stub: str) -> str:
    """The types of messages as a strict type checker takes them: protoc leaves out of what a `Mapping` is one."""
    whole = BARE_MAPPING.sub("_Mapping[str, _Any]", stub)
    return stub if whole == stub else whole.replace("from typing import ", "from typing import Any as _Any, ", 1)


def run(roots: Sequence[Path], arguments: Sequence[str]) -> None:
    """Run protoc on files below these folders; our own and Google's files can be imported anyway.

    Raises:
        UsageError: it fails, in its own words; or there is none.
    """
    if find_spec("grpc_tools") is None:
        raise UsageError(
            "reading .proto files needs protoc, as grpcio-tools has it: pip install 'eventmicro[generate]'"
        )
    missing = [str(root) for root in roots if not root.is_dir()]
    if missing:
        raise UsageError(f"there is no folder {', '.join(missing)}")
    folders = [*(roots or [Path()]), *_own_folder()]
    command = [sys.executable, "-m", "grpc_tools.protoc", *(f"-I{folder}" for folder in folders), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT, check=False)  # noqa: S603
    if done.returncode:
        said = done.stderr.replace("--eventmicro_out: ", "").strip()
        raise UsageError(said or f"protoc has failed with exit code {done.returncode}")
    sys.stderr.write(done.stderr)  # its warnings


def _own_folder() -> list[Path]:
    """The folder below which `eventmicro_schemas/v1/options.proto` lies."""
    found = find_spec("eventmicro_schemas")
    return [Path(found.origin).parents[1]] if found is not None and found.origin else []
