"""Files for the tests of this folder, and what is made of them."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from google.protobuf import descriptor_pb2

from eventmicro.generating import protoc


def write(folder: Path, files: dict[str, str]) -> list[Path]:
    """Write files by their names below a folder."""
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return [folder / name for name in files]


def descriptors(folder: Path, *names: str) -> dict[str, Any]:
    """What protoc says of files below a folder, and of all that they import."""
    out = folder / "descriptors"
    protoc.run([folder], [f"--descriptor_set_out={out}", "--include_imports", *names])
    return {file.name: file for file in descriptor_pb2.FileDescriptorSet.FromString(out.read_bytes()).file}


@contextmanager
def importable(folder: Path, *names: str) -> Iterator[list[ModuleType]]:
    """Modules below a folder, which are forgotten afterwards."""
    sys.path.insert(0, str(folder))
    before = set(sys.modules)
    try:
        yield [importlib.import_module(name) for name in names]
    finally:
        sys.path.remove(str(folder))
        for name in set(sys.modules) - before:
            if getattr(sys.modules[name], "__file__", None) is None or str(folder) in str(sys.modules[name].__file__):
                del sys.modules[name]
