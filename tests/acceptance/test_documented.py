"""The pieces of code in docs/ run, with what stands around them, and every whole program has a test that runs it."""

from __future__ import annotations

import ast
import asyncio
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from tests.conftest import PATIENCE
from tests.documented import DOCS, ROOT, Block, blocks, composed, pages, surroundings
from tests.servers import NatsServer

WITH_PIECES = [page for page in pages() if any(block.is_piece for block in blocks(page))]
# Which test runs the programs of a page, those that begin with `# name.py`.
RUN_BY = {
    "README.md": "acceptance/test_readme.py",
    "docs/contracts.md": "acceptance/test_contracts_docs.py",
    "docs/interop.md": "acceptance/test_interop_docs.py",
    "docs/joining/nats.md": "acceptance/test_joining_nats.py",
    "docs/joining/rabbitmq.md": "acceptance/test_joining_rabbitmq.py",
    "docs/services.md": "acceptance/test_services_docs.py",
    "docs/testing.md": "acceptance/test_testing_docs.py",
    "docs/tutorial.md": "acceptance/test_tutorial.py",
    **{
        f"docs/coming-from/{page.name}": "acceptance/test_coming_from.py"
        for page in (DOCS / "coming-from").glob("*.md")
    },
}
# What is checked by its types alone, and why it is not run here.
NOT_RUN = {"docs/joining/kafka.md 1": "it needs a Kafka: tests/integration/kafka does the same with one"}

# Whose pieces meet from several threads, which memory does not.
OVER_NATS = {"docs/services.md"}


def name(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.mark.parametrize("page", pages(), ids=name)
def test_every_block_is_python(page: Path) -> None:
    for block in blocks(page):
        compile(block.code, block.page, "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT | ast.PyCF_ONLY_AST)


@pytest.mark.parametrize("page", pages(), ids=name)
def test_every_program_has_a_test_that_runs_it(page: Path) -> None:
    if any(block.file for block in blocks(page)):
        assert name(page) in RUN_BY, "say in RUN_BY which test runs what begins with `# name.py`"
        test = (ROOT / "tests" / RUN_BY[name(page)]).read_text()
        assert page.name in test or f"docs/{page.parent.name}" in test


def test_what_is_neither_a_program_nor_a_piece_is_this_alone() -> None:
    others = {
        (block.page, block.first.partition(";")[0])
        for page in pages()
        for block in blocks(page)
        if block.file is None and not block.is_piece
    }
    assert others == {
        ("docs/coming-from/celery.md", "# Celery"),
        ("docs/coming-from/faststream.md", "# FastStream"),  # which test_coming_from runs, as FastStream is here
        ("docs/coming-from/nameko.md", "# nameko"),
        ("docs/operations.md", "# orders.py, its beginning"),  # run below
        ("docs/tutorial.md", "# billing.py, the line that is mended"),  # by test_tutorial
    }


def test_what_is_not_run_says_why() -> None:
    for piece in NOT_RUN:
        page, _, number = piece.rpartition(" ")
        assert int(number) <= sum(block.is_piece for block in blocks(ROOT / page))


@pytest.mark.parametrize("page", WITH_PIECES, ids=name)
async def test_the_pieces_of_a_page_run(page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if name(page) in OVER_NATS:
        with NatsServer() as server:
            await run_pieces(page, server.url, monkeypatch)
    else:
        await run_pieces(page, f"memory://{surroundings(page).stem}", monkeypatch)


async def run_pieces(page: Path, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EVENTMICRO_BROKER", url)
    module = ModuleType("pieces")
    monkeypatch.setitem(sys.modules, "pieces", module)
    code = composed(page).replace("nats://127.0.0.1:4222", url)
    exec(compile(code, f"{name(page)}, its pieces", "exec"), module.__dict__)
    async with asyncio.timeout(PATIENCE):
        await module.main()


def test_the_provider_of_the_page_about_operations_shows_the_span_of_a_call() -> None:
    [provider] = [block.code for block in blocks(DOCS / "operations.md") if "TracerProvider(" in block.code]
    traced = (
        "import asyncio\nfrom eventmicro import Client, Service\nfrom eventmicro.telemetry.tracing import Tracing\n"
        "service = Service('orders', broker='memory://', middleware=[Tracing()])\n"
        "@service.rpc\nasync def quote(number: int) -> int:\n    return number\n"
        "async def main() -> None:\n    async with service, Client('memory://') as client:\n"
        "        await client.call('orders.quote', 1, int)\n"
        "asyncio.run(main())\n"
    )
    done = subprocess.run([sys.executable, "-c", provider + traced], capture_output=True, text=True, check=True)
    assert '"name": "orders/quote"' in done.stdout
    assert '"service.name": "orders"' in done.stdout


def test_a_piece_without_a_place_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    page = next(page for page in pages() if not surroundings(page).exists())
    monkeypatch.setattr("tests.documented.blocks", lambda page: [Block(name(page), "print(1)\n")])
    with pytest.raises(LookupError, match=r'say by ".* 1" in tests/documented/'):
        composed(page)
