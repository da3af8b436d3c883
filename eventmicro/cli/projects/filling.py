"""A project is made beside its place, and moved there when it is whole: nothing half-made is left anywhere."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from eventmicro.errors import EventMicroError, UsageError

TEMPLATES = Path(__file__).parents[1] / "templates"
# What all projects have; over it comes what those of a type have.
COMMON = "common"
# How the place of a template begins that is a repository.
REMOTE = ("gh:", "gl:", "git+", "git@", "https://", "ssh://")


def put(place: Path, make: Callable[[Path], None]) -> None:
    """Make a folder at a place where there is none.

    Raises:
        EventMicroError: it cannot be made; nothing is left of it.
    """
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{place.name}.", dir=place.parent) as beside:
            target = Path(beside) / place.name
            make(target)
            target.rename(place)
    except OSError as error:
        raise EventMicroError(f"{place} cannot be made: {error.strerror or error}") from error


def fill(target: Path, wanted: Mapping[str, Any], template: str | None = None) -> None:
    """Make a project in a folder, by our templates or another one.

    Raises:
        UsageError: Copier is not installed.
        EventMicroError: the template is broken; it says where.
    """
    if template is not None:
        _copy(template, target, wanted)
        return
    for part in (COMMON, str(wanted["type"])):
        _copy(str(TEMPLATES), target, {**wanted, "part": part})


def fill_in(folder: Path, wanted: Mapping[str, Any], parts: Sequence[str]) -> Iterator[tuple[str, bool]]:
    """Write of a project those parts that a folder lacks; each path, and whether it is new.

    Args:
        parts: files, and folders with a slash at the end.
    """
    with tempfile.TemporaryDirectory() as beside:
        whole = Path(beside) / folder.name
        fill(whole, wanted)
        for source in sorted(path for path in whole.rglob("*") if path.is_file()):
            name = source.relative_to(whole).as_posix()
            if name.startswith(tuple(part for part in parts if part.endswith("/"))) or name in parts:
                yield name, _write_new(folder / name, source.read_bytes())


def _write_new(path: Path, content: bytes) -> bool:
    """Write a file that is not there; whether it was not."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("xb") as file:
            file.write(content)
    except FileExistsError:
        if path.is_file() or path.is_symlink():
            return False
        raise UsageError(f"{path} is in the way: it is no file") from None
    except NotADirectoryError:
        raise UsageError(f"{path.parent} is in the way: it is no folder") from None
    except OSError as error:
        raise EventMicroError(f"{path} cannot be written: {error.strerror}") from error
    return True


def _copy(template: str, target: Path, data: Mapping[str, Any]) -> None:
    try:
        from copier import run_copy
        from copier.errors import CopierError
        from jinja2 import TemplateError
        from yaml import YAMLError
    except ModuleNotFoundError as error:
        raise UsageError(f"projects are made by {error.name}: pip install 'eventmicro[new]'") from None
    _check_place(template)
    try:
        run_copy(template, target, dict(data), defaults=True, overwrite=True, quiet=True, cleanup_on_error=False)
    except TemplateError as error:
        where, line = getattr(error, "filename", None) or template, getattr(error, "lineno", None)
        place = f"{where}, line {line}" if line else where
        raise EventMicroError(f"the template is broken: {place}: {error.message}") from error
    except (CopierError, YAMLError, ValueError) as error:
        raise EventMicroError(f"the template is broken: {error}") from error
    if not target.is_dir():
        raise EventMicroError(f"the template {template} is empty")


def _check_place(template: str) -> None:
    """Refuse what is no template at all, before Copier asks a network for it."""
    if not template.startswith(REMOTE) and not Path(template).is_dir():
        raise UsageError(f"--template {template}: there is no such folder; a repository is written gh:owner/name")
