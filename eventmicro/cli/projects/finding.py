"""What a folder has already: services in its code, which is read and never run."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from eventmicro.errors import UsageError
from eventmicro.wire import check_name

# How many files are looked at, and what is none of the project's own.
MOST = 2000
OTHERS = {"node_modules", "build", "dist", "site-packages", "tests", "venv", "env"}


def find_services(folder: Path) -> dict[str, str]:
    """The services at the top of the modules of a folder by name, and the target of each."""
    found: dict[str, str] = {}
    for number, path in enumerate(_modules(folder)):
        if number == MOST:
            break
        for variable, name in _services_in(path):
            found.setdefault(name, f"{path.relative_to(folder).as_posix()}:{variable}")
    return found


def _modules(folder: Path) -> Iterator[Path]:
    try:
        paths = sorted(folder.iterdir())
    except OSError:  # one that may not be read has no services of this project
        return
    for path in paths:
        if path.name.startswith(".") or path.name in OTHERS or path.is_symlink():
            continue
        if path.is_dir():
            yield from _modules(path)
        elif path.suffix == ".py":
            yield path


def _services_in(path: Path) -> Iterator[tuple[str, str]]:
    """The variable and the name of each `orders = Service("orders")`."""
    try:
        module = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError, OSError, RecursionError):
        return
    for line in module.body:
        match line:
            case ast.Assign(
                targets=[ast.Name(id=variable)],
                value=ast.Call(func=ast.Name(id="Service"), args=[ast.Constant(value=str(name)), *_]),
            ) if is_name(name):
                yield variable, name


def is_name(name: str) -> bool:
    """Whether a service can have this name; else it is a file that no Service comes of."""
    try:
        return bool(check_name(name, "service"))
    except UsageError:
        return False


def mentions_eventmicro(pyproject: Path) -> bool:
    """Whether a project has it among its dependencies, or says so elsewhere."""
    try:
        return "eventmicro" in pyproject.read_text()
    except (OSError, ValueError):
        return False
