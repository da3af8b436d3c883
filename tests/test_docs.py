"""The documentation says what the code does."""

from __future__ import annotations

import ast
import importlib
import inspect
import logging
import pkgutil
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from eventmicro import Side, middlewares
from eventmicro.codecs import Codecs
from eventmicro.events.options import DeliveryOptions
from eventmicro.middleware import sides_of
from eventmicro.middlewares.ordering import ORDER
from tests.documented import blocks, composed, pages

DOCS = Path(__file__).parents[1] / "docs"
CORE = DOCS.parent / "eventmicro"
ADAPTERS = sorted(
    path
    for folder in ("brokers", "backends")
    for path in (DOCS.parent / folder).iterdir()
    if (path / "__init__.py").is_file()
)


def test_what_the_docs_take_from_the_code_is_up_to_date() -> None:
    done = subprocess.run([sys.executable, DOCS / "update.py", "--check"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


def test_no_page_has_both_sides_of_a_merge() -> None:
    root = DOCS.parent
    found = [
        f"{path.relative_to(root)}: {line}"
        for path in (*root.glob("*.md"), *DOCS.rglob("*.md"), *root.glob("examples/**/*.md"))
        for line in path.read_text().splitlines()
        if line.startswith(("<<<<<<< ", ">>>>>>> ")) or line == "======="
    ]
    assert found == []


def test_the_page_on_codecs_lists_every_content_type_and_no_other() -> None:
    listed = re.findall(r"^\| `(\w+/[\w.+-]+)` \| `([\w.+-]+)` \|", (DOCS / "codecs.md").read_text(), re.MULTILINE)
    codecs = Codecs()
    assert {full for full, _ in listed} == set(codecs.content_types())
    assert [codecs.resolve(short) for _, short in listed] == [full for full, _ in listed]


def test_the_page_on_delivery_explains_every_option_and_no_other() -> None:
    explained = re.findall(r"^\| `(\w+)` \|", (DOCS / "delivery.md").read_text(), re.MULTILINE)
    assert explained == [field.name for field in fields(DeliveryOptions)]


RESILIENCE = (DOCS / "resilience.md").read_text()


def test_the_page_on_resilience_has_the_order_of_the_middleware() -> None:
    order = re.findall(r"^\| \d \| `(\w+)` \|", RESILIENCE, re.MULTILINE)
    assert order == [kind.__name__ for kind in ORDER]


def test_the_page_on_resilience_says_on_which_sides_each_middleware_runs() -> None:
    rows = re.findall(r"^\| `(\w+)\(\w*\)` \|(.*)\|$", RESILIENCE, re.MULTILINE)
    sides = (Side.CLIENT, Side.ENDPOINT, Side.SUBSCRIBER, Side.PUBLISHER)
    told = {
        name: {side for side, cell in zip(sides, row.split("|"), strict=False) if cell.strip("\u2013 ")}
        for name, row in rows
    }
    assert told == {kind.__name__: set(sides_of(kind)) for kind in ORDER}  # type: ignore[arg-type]


def test_what_the_page_on_resilience_says_of_defaults_is_so() -> None:
    shown = re.findall(r"^- \*\*`(\w+)\((.*?)\)`\*\*", RESILIENCE, re.MULTILINE)
    assert len(shown) == 8
    for name, words in shown:
        parameters = inspect.signature(getattr(middlewares, name)).parameters
        said = dict(re.findall(r"(\w+)=((?:\(.*?\)|\"[^\"]*\"|[^,])+)", words))
        defaults = {each: parameters[each].default for each in said}
        assert defaults == {each: eval(value, vars(logging)) for each, value in said.items()}


def names_in(folder: Path) -> set[str]:
    """The modules and rooms of a package."""
    files = {path.stem for path in folder.glob("*.py") if not path.stem.startswith("__")}
    return files | {path.parent.name for path in folder.glob("*/__init__.py")}


def table(first: str) -> str:
    """The table of the architecture whose rows begin so."""
    return "\n".join(line for line in (DOCS / "architecture.md").read_text().splitlines() if re.match(first, line))


def test_the_house_is_drawn_with_all_its_modules_and_rooms() -> None:
    drawn = set(re.findall(r"`(\w+)/?`", table(r"\| (words|ports|parts|rooms?|faces?|tools|) ?\| (?!files in)")))
    listed = (
        "broker",
        "handlers",
        "events",
        "rpc",
        "discovery",
        "contracts",
        "telemetry",
        "running",
        "generating",
        "sync",
        "testing",
        "configuration",
    )
    rooms = set().union(*(names_in(CORE / room) for room in listed))
    assert drawn == names_in(CORE) | rooms


@pytest.mark.parametrize("adapter", ADAPTERS, ids=lambda path: path.name)
def test_the_hall_and_the_rooms_of_each_adapter_are_drawn(adapter: Path) -> None:
    drawn = set(re.findall(r"`(\w+)/?`", table(rf"\| `{adapter.name}`")))
    assert drawn - {adapter.name} == names_in(adapter)


PAGES = [
    *(DOCS.parent / name for name in ("README.md", "CHANGELOG.md", "CONTRIBUTING.md")),
    *(page for folder in ("docs", "examples") for page in sorted((DOCS.parent / folder).rglob("*.md"))),
]


def anchors(page: Path) -> set[str]:
    """What a link to a heading of a page may say, on a code host."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(DOCS.parent)))
def test_every_file_and_every_heading_that_is_linked_is_there(page: Path) -> None:
    prose = re.sub(r"^ *```.*?^ *```", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    links = re.findall(r"\]\((?!\w+:)([^)#\s]*)#?([^)\s]*)\)", prose)
    targets = {(page.parent / link if link else page, anchor) for link, anchor in links}
    assert [path for path, _ in targets if not path.exists()] == []
    assert [(path.name, anchor) for path, anchor in targets if anchor and anchor not in anchors(path)] == []


def test_every_page_is_in_the_navigation_of_the_site_once() -> None:
    site = tomllib.loads((DOCS.parent / "zensical.toml").read_text())["project"]
    named = list(leaves(site["nav"]))
    assert sorted(named) == sorted(str(page.relative_to(DOCS.parent)) for page in PAGES), "a line in zensical.toml"


def leaves(nav: list[dict[str, Any]]) -> Iterator[str]:
    for entry in nav:
        for below in entry.values():
            yield from [below] if isinstance(below, str) else leaves(below)


PUBLIC = [
    *("eventmicro", "eventmicro.conformance", "eventmicro.middlewares", "eventmicro.registries", "eventmicro.testing"),
    *("eventmicro_schemas", "eventmicro_nats", "eventmicro_rabbitmq", "eventmicro_kafka"),
    *("eventmicro_kafka.schema_registry", "eventmicro_etcd", "eventmicro_consul", "eventmicro_mdns"),
]
MODULES = ("broker", "codec", "conformance", "embedded", "message", "registry")
REFERENCE = "".join(page.read_text() for page in sorted((DOCS / "reference").glob("*.md")))


@pytest.mark.parametrize("package", PUBLIC)
def test_every_public_name_is_in_the_reference_once(package: str) -> None:
    listed = re.findall(rf"^- `{re.escape(package)}\.([A-Za-z]\w*)`$", REFERENCE, re.MULTILINE)
    modules = MODULES if package == "eventmicro" else ()
    assert sorted(listed) == sorted({*importlib.import_module(package).__all__, *modules})


def test_what_the_reference_lists_can_be_imported() -> None:
    for name in re.findall(r"^- `([\w.]+)`$", REFERENCE, re.MULTILINE):
        assert pkgutil.resolve_name(name) is not None


def imported(code: str) -> Iterator[str]:
    """What of ours some Python imports."""
    tree = compile(code, "docs", "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT | ast.PyCF_ONLY_AST)
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("eventmicro"):
            yield from (f"{node.module}.{each.name}" for each in node.names)


def test_what_users_are_told_to_import_is_in_the_reference() -> None:
    listed = set(re.findall(r"^- `([\w.]+)`$", REFERENCE, re.MULTILINE))
    examples = [path for path in (DOCS.parent / "examples").rglob("*.py") if "_pb2" not in path.name]
    code = [*(path.read_text() for path in examples), *(each.code for page in pages() for each in blocks(page))]
    named = {name for each in code for name in imported(each)}
    assert len(named) > 50
    assert [name for name in sorted(named) if not {name, name.rpartition(".")[0]} & listed] == []


def test_every_adapter_is_in_the_reference() -> None:
    assert {adapter.name for adapter in ADAPTERS} <= set(PUBLIC)


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.name)
def test_every_piece_of_python_has_its_place_in_a_program_that_is_run(page: Path) -> None:
    composed(page)
