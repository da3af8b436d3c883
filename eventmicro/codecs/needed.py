"""The packages that some content types and message types need, loaded when they are needed."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import Any

from eventmicro.errors import AdapterNotFound


def check_installed(module: str, package: str, extra: str, what: str) -> None:
    """See that a package is there, without loading it.

    Args:
        module: what is imported.
        package: what is installed for it, where somebody else's may have the same module.
        extra: the extra that brings it.
        what: what needs it.

    Raises:
        AdapterNotFound: it is not.
    """
    if not _is_there(module):
        raise AdapterNotFound(f"{what} needs {package}: pip install 'eventmicro[{extra}]'")


def _is_there(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # not even the package that it is in
        return False


def need(module: str, package: str, extra: str, what: str) -> Any:
    """Load a module that not everybody has; see `check_installed`."""
    check_installed(module, package, extra, what)
    return import_module(module)
