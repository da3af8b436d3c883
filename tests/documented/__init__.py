"""The Python of README.md and docs/: every block of it is checked by mypy, and run.

A block that begins with `# name.py` is a file, and a test of its page runs it. One without is a piece: what stands
around it is in the file here that is named after its page, which says by `"docs/page.md 2"` where the second one goes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from textwrap import indent

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
SURROUNDINGS = Path(__file__).parent
FENCE = re.compile(r"^```python\n(.*?)^```", re.DOTALL | re.MULTILINE)
NAMED = re.compile(r"# ([\w-]+\.py)(, .*)?$")
# Whose they are: what they import is not ours, and only has to be Python.
THEIRS = ("# FastStream", "# nameko", "# Celery")


@dataclass(frozen=True)
class Block:
    """A block of Python of a page."""

    page: str
    code: str

    @property
    def first(self) -> str:
        return self.code.partition("\n")[0]

    @property
    def file(self) -> str | None:
        """The name of the file that it is; None: it is a piece, or theirs."""
        named = NAMED.match(self.first)
        return named[1] if named and not named[2] else None

    @property
    def is_piece(self) -> bool:
        return not NAMED.match(self.first) and not self.first.startswith(THEIRS)


def pages() -> list[Path]:
    return [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]


def blocks(page: Path) -> list[Block]:
    name = str(page.relative_to(ROOT))
    return [Block(name, code) for code in FENCE.findall(page.read_text())]


def surroundings(page: Path) -> Path:
    """The file with what stands around the pieces of a page."""
    name = str(page.relative_to(DOCS if page.is_relative_to(DOCS) else ROOT).with_suffix(""))
    return SURROUNDINGS / f"{name.replace('/', '_').replace('-', '_').lower()}.py"


def composed(page: Path) -> str:
    """The pieces of a page with what stands around them, as a program.

    Raises:
        LookupError: a piece has no place, or a place no piece.
    """
    path, pieces = surroundings(page), [block for block in blocks(page) if block.is_piece]
    text = path.read_text() if path.exists() else ""
    for number, piece in enumerate(pieces, 1):
        place = re.compile(rf'^( *)"{re.escape(piece.page)} {number}"\n', re.MULTILINE)
        if len(place.findall(text)) != 1:
            said = f'{piece.page}: say by "{piece.page} {number}" in {path.relative_to(ROOT)} where this goes'
            raise LookupError(f"{said}, or begin it with `# name.py`:\n{piece.code}")
        text = place.sub(lambda found, code=piece.code: indent(code, found[1]), text)  # type: ignore[misc]
    if left := re.findall(r'^ *"(?:docs/.*|README)\.md \d+"\n', text, re.MULTILINE):
        raise LookupError(f"{path.relative_to(ROOT)}: the page has no {''.join(left).strip()}")
    return text


def programs() -> Iterator[tuple[str, str, str]]:
    """All that there is to be checked, as the folder of a page, the name of a file and its code."""
    for page in pages():
        folder = surroundings(page).stem
        for block in blocks(page):
            if block.file is not None:
                yield folder, block.file, block.code
        if any(block.is_piece for block in blocks(page)):
            yield folder, "pieces.py", composed(page)
