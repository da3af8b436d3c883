"""Builds the site in build/site out of what stands in the repository, and fails at a link or a docstring that is wrong.

Pages are laid out in build/pages under the paths that they have here, so that a link is right in both places. A file
that a page links to and that is none, as an example, becomes one; the names listed in docs/reference/ their docstrings.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).resolve().parent.parent
PAGES = ROOT / "build" / "pages"
SITE = ROOT / "build" / "site"
STYLE = ROOT / "docs" / "site.css"
LINK = re.compile(r"(\]\()(?!\w+:|#)([^)#\s]+)")
ROW = re.compile(r"^\|.*$", re.MULTILINE)
CODE = re.compile(r"`[^`]+`")
NAME = re.compile(r"^- `(eventmicro\w*\.[\w.]+)`.*$", re.MULTILINE)
LANGUAGES = {".yml": "yaml", ".proto": "protobuf", ".py": "python", ".json": "json"}


def pages() -> list[Path]:
    """All that is read as it stands, and is linked from there."""
    folders = [page for folder in ("docs", "examples") for page in sorted((ROOT / folder).rglob("*.md"))]
    return [ROOT / "README.md", ROOT / "CHANGELOG.md", ROOT / "CONTRIBUTING.md", *folders]


def lay_out(page: Path) -> None:
    """A page as the site has it, with the files that it links to."""
    text = LINK.sub(lambda link: link[1] + to_page(page.parent / link[2], link[2]), page.read_text())
    text = ROW.sub(lambda row: CODE.sub(lambda code: code[0].replace(r"\|", "|"), row[0]), text)  # GitHub needs the \
    if page.parent == ROOT / "docs" / "reference":
        text = NAME.sub(lambda name: docstring(name[1]), text)
    write(page, text)


def docstring(name: str) -> str:
    """What becomes the docstring of a name, and not that of a module which is called the same, as `eventmicro.rpc`."""
    package, _, own = name.rpartition(".")
    found = getattr(import_module(package), own, None) if (ROOT / package / own).is_dir() else None
    if found is None or isinstance(found, ModuleType):
        return f"::: {name}\n"
    shown = f"    options:\n      heading: {name}\n      toc_label: {own}\n"
    return f"::: {found.__module__}.{found.__qualname__}\n{shown}"


def to_page(target: Path, link: str) -> str:
    """The link to what stands there, which is made a page where it is none."""
    if target.is_dir():
        return f"{link.rstrip('/')}/README.md"
    if target.suffix == ".md" or not target.is_file():
        return link  # what is not there is told by the build, with the line
    language = LANGUAGES.get(target.suffix, "text")
    shown = f"# {target.name}\n\n````{language}\n{target.read_text()}````\n"
    write(target.resolve().with_name(f"{target.name}.md"), shown)
    return f"{link}.md"


def write(page: Path, text: str) -> None:
    place = PAGES / page.relative_to(ROOT)
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(text)


def build() -> str:
    """Build the site; what was said, where something is wrong."""
    command = [sys.executable, "-m", "zensical", "build", "--clean", "--strict"]
    done = subprocess.run(command, cwd=ROOT, env=os.environ | {"NO_COLOR": "1"}, capture_output=True, text=True)
    said = done.stdout + done.stderr
    return said if done.returncode or re.search(r"^griffe: ", said, re.MULTILINE) else ""


if __name__ == "__main__":
    for folder in (PAGES, SITE):
        shutil.rmtree(folder, ignore_errors=True)
    for page in pages():
        lay_out(page)
    write(STYLE, STYLE.read_text())
    if wrong := build():
        sys.exit(wrong)
    print(f"{len(list(SITE.rglob('index.html')))} pages; begin with {SITE / 'index.html'}")
