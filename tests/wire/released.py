"""The wire records that are released: docs/stability.md promises that they are only added to.

`released.json` has a digest of each. `python -m tests.wire.released` adds those that are new, which `make release` asks
for, and never touches what is there.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

GOLDEN = Path(__file__).parent / "golden"
RELEASED = Path(__file__).parent / "released.json"
# Files with several records under one name, of which each may get more.
NESTED = ("codecs.json",)


def on_record(folder: Path = GOLDEN) -> dict[str, str]:
    """The digest of each record, by its file and its name there."""
    return {
        "/".join((path.name, *names)): hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()[:16]
        for path in sorted(folder.glob("*.json"))
        for names, record in records(json.loads(path.read_text()), nested=path.name in NESTED)
    }


def records(file: Mapping[str, Any], *, nested: bool) -> Iterator[tuple[tuple[str, ...], Any]]:
    for name, record in file.items():
        if nested:
            yield from (((name, each), form) for each, form in record.items())
        else:
            yield (name,), record


def released(file: Path = RELEASED) -> dict[str, str]:
    said: dict[str, str] = json.loads(file.read_text())
    return said


def broken_promises(now: Mapping[str, str], before: Mapping[str, str]) -> Iterator[str]:
    """The released records that were changed or removed, each with what is to be done."""
    for name, digest in before.items():
        if now.get(name) != digest:
            what = "is not what was released" if name in now else "was released, and is gone"
            yield f"tests/wire/golden/{name} {what}: put it back, and record what is new beside it, by another name"


def not_yet_released(now: Mapping[str, str], before: Mapping[str, str]) -> list[str]:
    return [name for name in now if name not in before]


def add_new(folder: Path = GOLDEN, file: Path = RELEASED) -> None:
    """Write the list with what is new; what is on it stays as it is."""
    now, before = on_record(folder), released(file)
    whole = before | {name: now[name] for name in not_yet_released(now, before)}
    file.write_text(json.dumps(whole, indent=2) + "\n")


if __name__ == "__main__":
    add_new()
