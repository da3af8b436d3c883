"""What eventmicro's messages look like, as files that any language can read: `path("v1/error.schema.json")`."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

__all__ = ["path", "text"]


def path(name: str) -> Path:
    """Where a schema lies, by its name below this package.

    Raises:
        FileNotFoundError: there is none of this name.
    """
    found = Path(str(files(__name__))) / name
    if not found.is_file():
        raise FileNotFoundError(f"there is no schema {name!r}; write it as 'v1/error.schema.json'")
    return found


def text(name: str) -> str:
    """A schema as text.

    Raises:
        FileNotFoundError: there is none of this name.
    """
    return path(name).read_text(encoding="utf-8")
