"""`eventmicro generate` and `asyncapi` as a user types them: from code, files and services that run, and back."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from tests.processes import Program, eventmicro

APP = """
from typing import Protocol
from pydantic import BaseModel
from eventmicro import Contract, Service

class Order(BaseModel):
    sku: str
    quantity: int = 1

class Orders(Contract, Protocol, service="orders"):
    async def quote(self, request: Order) -> Order: ...

class Refused(Contract, Protocol):
    async def quote(self, request: Order) -> list[int]: ...

service = Service("orders")
silent = Service("silent")

@silent.rpc
async def ping() -> None: ...

@service.implements(Orders)
class Handler:
    async def quote(self, request: Order) -> Order:
        return Order(sku=request.sku, quantity=2 * request.quantity)
"""

USE = """
import asyncio
from eventmicro import Client
from generated.orders import Order, Orders

async def main() -> None:
    async with Client() as client:
        print((await client.stub(Orders).quote(Order(sku="tea", quantity=3))).quantity)

asyncio.run(main())
"""

PROTO = 'syntax = "proto3";\npackage tea.v1;\nmessage Tea {}\nservice Teas { rpc Brew(Tea) returns (Tea); }\n'


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "app.py").write_text(APP)
    (tmp_path / "use.py").write_text(USE)
    (tmp_path / "tea.proto").write_text(PROTO)
    return tmp_path


@pytest.mark.timeout_seconds(60)
def test_the_contract_of_a_running_service_is_written_and_calls_it(folder: Path) -> None:
    with Program(folder, "run", "app") as program:
        program.line_with("silent.ping")
        printed = eventmicro(folder, "generate", "client", "orders")
        assert (printed.returncode, printed.stderr) == (0, "")
        written = eventmicro(
            folder, "generate", "client", "orders", "--version", "0.0.0", "--out", "generated/orders.py"
        )
        assert (written.returncode, written.stdout) == (0, "")
        assert (folder / "generated/orders.py").read_text() == printed.stdout
        with Program(folder, "use.py", python=True) as use:
            assert (use.wait(), use.output) == (0, "6\n")
        other = eventmicro(folder, "generate", "client", "orders", "--version", "9.0.0")
        assert (other.returncode, other.stderr) == (1, "eventmicro: 'orders' runs in 0.0.0, and not in 9.0.0\n")
        silent = eventmicro(folder, "generate", "client", "silent")
        assert silent.stderr == "silent.ping: no types are known, so it takes and returns nothing\n"
        nobody = eventmicro(folder, "generate", "client", "nobody")
        assert (nobody.returncode, nobody.stdout) == (1, "")
        running = eventmicro(folder, "asyncapi", "--running", "orders", "--format", "json")
        assert list(json.loads(running.stdout)["operations"]) == ["orders.quote"]
        wrong = eventmicro(folder, "asyncapi", "--running", "order")
        assert wrong.stderr == "eventmicro: no node of 'order' answers; did you mean 'orders'?\n"


def test_a_proto_file_becomes_messages_and_contracts(folder: Path) -> None:
    done = eventmicro(folder, "generate", "proto", "tea.proto", "--out", "made")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    made = sorted(path.name for path in (folder / "made").iterdir())
    assert made == ["tea_contracts.py", "tea_pb2.py", "tea_pb2.pyi"]
    back = eventmicro(folder, "generate", "proto-of", "made/tea_contracts.py:Teas")
    assert (back.returncode, back.stderr) == (0, "")
    assert "rpc Brew(.tea.v1.Tea) returns (.tea.v1.Tea);" in back.stdout


def test_a_proto_file_with_errors_is_refused_with_its_line_and_without_a_traceback(folder: Path) -> None:
    (folder / "tea.proto").write_text(PROTO.replace("(Tea);", "(Cup);"))
    done = eventmicro(folder, "generate", "proto", "tea.proto")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == 'eventmicro: tea.proto:4:39: "Cup" is not defined.\n'
    assert not (folder / "tea_pb2.py").exists()


def test_a_contract_becomes_a_proto_file_or_says_what_it_lacks(folder: Path) -> None:
    done = eventmicro(
        folder, "generate", "proto-of", "app:Orders", "--package", "shop.v1", "--out", "shop/orders.proto"
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "rpc Quote(.shop.v1.Order) returns (.shop.v1.Order);" in (folder / "shop/orders.proto").read_text()
    for target, said in {
        "app:Refused": "Refused.quote, what it returns: list[int] is no message; put it into a model",
        "app:Order": "app has no contract 'Order'; its contracts: Orders, Refused; did you mean 'Orders'?",
        "app": "app has not one contract; its contracts: Orders, Refused",
        "apple:Orders": "cannot import 'apple'",
    }.items():
        refused = eventmicro(folder, "generate", "proto-of", target)
        assert (refused.returncode, refused.stdout) == (2, ""), refused.stderr
        assert refused.stderr.startswith(f"eventmicro: {said}")


def test_a_module_that_raises_shows_the_users_lines_only(folder: Path) -> None:
    (folder / "broken.py").write_text("raise LookupError('no such thing')\n")
    done = eventmicro(folder, "generate", "proto-of", "broken:Orders")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.splitlines()[-1] == "LookupError: no such thing"
    assert "eventmicro/" not in done.stderr


def test_the_code_of_services_becomes_a_document_or_a_page(folder: Path) -> None:
    printed = eventmicro(folder, "asyncapi", "app", "--broker", "nats://me:secret@a:4222")
    assert (printed.returncode, printed.stderr) == (0, "")
    document = yaml.safe_load(printed.stdout)
    assert list(document["operations"]) == ["orders.quote", "silent.ping"]
    assert document["servers"]["broker"]["host"] == "a:4222"
    assert "secret" not in printed.stdout
    for name, begin in (("made/api.json", "{"), ("made/api.yaml", "asyncapi: 3"), ("made/api.html", "<!doctype html>")):
        done = eventmicro(folder, "asyncapi", "app:service", "--out", name)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
        assert (folder / name).read_text().startswith(begin)
    missing = eventmicro(folder, "asyncapi")
    assert missing.returncode == 2
    assert "write module:service, or --running" in missing.stderr
