"""What protoc with our plugin makes of `.proto` files: contracts that say all that the files say."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, get_type_hints

import pytest
from google.protobuf.compiler import plugin_pb2

from eventmicro import Client, Service, UsageError
from eventmicro.contracts.contract import read_contract
from eventmicro.generating.plugin import answer
from eventmicro.generating.protoc import generate
from tests.checkers import mypy
from tests.unit.generating.kit import importable, write

pytest.importorskip("grpc_tools")

ORDERS = """
edition = "2023";

package gen_shop.v1;

import "eventmicro_schemas/v1/options.proto";
import "gen_shop/v1/common.proto";
import "gen_other/common.proto";
import "google/protobuf/empty.proto";
import "google/protobuf/timestamp.proto";

message Quote {
  message Part { string sku = 1; }
  repeated Part parts = 1;
  google.protobuf.Timestamp at = 2;
}

// What the shop answers to:
//   "quotes", with \\ and \"\"\" in their \"words\"
service Orders {
  option (eventmicro.v1.service) = {name: "gen-orders" version: "1.2.0"};

  // One quote.
  rpc Quote(QuoteRequest) returns (.gen_shop.v1.Quote) {
    option (eventmicro.v1.method) = {timeout: 2.5 idempotent: true};
  }
  rpc GetURLOf(google.protobuf.Empty) returns (google.protobuf.Empty) {
    option idempotency_level = NO_SIDE_EFFECTS;
  }
  rpc Watch(QuoteRequest) returns (stream .gen_shop.v1.Quote.Part); // Parts, one by one.
  rpc Total(stream .gen_shop.v1.Quote.Part) returns (gen_other.Sum) {
    option (eventmicro.v1.method).name = "sum-up";
  }
  rpc Talk(stream QuoteRequest) returns (stream QuoteRequest);
  rpc Import(QuoteRequest) returns (.gen_shop.v1.Quote);
}

service Protocol {
  rpc Ping(google.protobuf.Empty) returns (google.protobuf.Empty);
}
"""
COMMON = """
syntax = "proto3";
package gen_shop.v1;
import public "gen_other/base.proto";
message QuoteRequest { optional string sku = 1; map<string, double> prices = 2; }
"""
OTHER = 'syntax = "proto3"; package gen_other; message Sum { int64 value = 1; }'
BASE = 'syntax = "proto3"; package gen_other; message Base { int64 value = 1; }'
FILES = {
    "gen_shop/v1/orders.proto": ORDERS,
    "gen_shop/v1/common.proto": COMMON,
    "gen_other/common.proto": OTHER,
    "gen_other/base.proto": BASE,
}

CONTRACTS = '''"""The contracts of gen_shop/v1/orders.proto, written by protoc-gen-eventmicro: do not edit."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Protocol

from eventmicro import Contract, rpc
from gen_other import common_pb2 as gen_other_common_pb2
from gen_shop.v1 import common_pb2, orders_pb2
from google.protobuf import empty_pb2


class Orders(Contract, Protocol, service="gen-orders", version="1.2.0"):
    """What the shop answers to:
    "quotes", with \\\\ and \\"\\"\\" in their "words"
    """

    @rpc(timeout=2.5, idempotent=True)
    async def quote(self, request: common_pb2.QuoteRequest) -> orders_pb2.Quote:
        """One quote."""
        ...

    @rpc(idempotent=True)
    async def get_url_of(self, request: empty_pb2.Empty) -> empty_pb2.Empty: ...

    def watch(self, request: common_pb2.QuoteRequest) -> AsyncIterator[orders_pb2.Quote.Part]:
        """Parts, one by one."""
        ...

    @rpc(name="sum-up")
    async def total(self, requests: AsyncIterator[orders_pb2.Quote.Part]) -> gen_other_common_pb2.Sum: ...

    def talk(self, requests: AsyncIterator[common_pb2.QuoteRequest]) -> AsyncIterator[common_pb2.QuoteRequest]: ...

    @rpc(name="import")
    async def import_(self, request: common_pb2.QuoteRequest) -> orders_pb2.Quote: ...


class ProtocolService(Contract, Protocol, service="protocol"):
    async def ping(self, request: empty_pb2.Empty) -> empty_pb2.Empty: ...
'''


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which all of FILES is generated."""
    folder = tmp_path_factory.mktemp("protos")
    generate(write(folder, FILES), folder / "out", [folder])
    return folder / "out"


def test_the_contracts_say_all_that_the_file_says(made: Path) -> None:
    assert (made / "gen_shop/v1/orders_contracts.py").read_text() == CONTRACTS


def test_files_without_services_get_messages_and_types_and_nothing_else(made: Path) -> None:
    names = sorted(str(path.relative_to(made)) for path in made.rglob("*.py*"))
    stems = ("gen_other/base", "gen_other/common", "gen_shop/v1/common")
    expected = [f"{stem}_pb2.{ending}" for stem in (*stems, "gen_shop/v1/orders") for ending in ("py", "pyi")]
    assert names == sorted([*expected, "gen_shop/v1/orders_contracts.py"])


def test_the_written_file_is_clean_for_ruff(made: Path) -> None:
    file = str(made / "gen_shop/v1/orders_contracts.py")
    for arguments in (["check", "--select", "E,F,UP,B,RUF,PIE"], ["format", "--check"]):
        command = [sys.executable, "-m", "ruff", *arguments, "--isolated", "--line-length", "120", file]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


def test_it_passes_mypy_strict_with_the_types_of_its_messages(made: Path) -> None:
    (made / "use_orders.py").write_text(
        "from typing import assert_type\n"
        "from eventmicro import Client\n"
        "from gen_shop.v1.common_pb2 import QuoteRequest\n"
        "from gen_shop.v1.orders_contracts import Orders\n"
        "from gen_shop.v1.orders_pb2 import Quote\n"
        "async def use(client: Client) -> None:\n"
        "    orders = client.stub(Orders)\n"
        "    assert_type(await orders.quote(QuoteRequest(sku='a')), Quote)\n"
        "    async for part in orders.watch(QuoteRequest()):\n"
        "        assert_type(part, Quote.Part)\n"
        "    await orders.quote(Quote())\n"
    )
    done = mypy(made, "use_orders.py")
    ours = [line for line in done.stdout.splitlines() if "_pb2.pyi" not in line and ": error:" in line]
    assert [line.split(":")[:2] for line in ours] == [["use_orders.py", "11"]], done.stdout


def test_the_types_of_the_messages_pass_mypy_strict_themselves(made: Path) -> None:
    stubs = sorted(str(path.relative_to(made)) for path in made.rglob("*_pb2.pyi"))
    done = mypy(made, "--explicit-package-bases", *stubs)
    assert (done.returncode, len(stubs)) == (0, 4), done.stdout


async def items(*values: Any) -> AsyncIterator[Any]:
    for value in values:
        yield value


async def test_what_is_written_is_served_and_called_in_all_four_kinds(made: Path) -> None:
    with importable(made, "gen_shop.v1.orders_contracts", "gen_shop.v1.orders_pb2", "gen_other.common_pb2") as found:
        contracts, messages, other = found
        types = {method.attribute: method for method in read_contract(contracts.Orders).methods}
        request, part, quote = types["quote"].request, messages.Quote.Part, messages.Quote

        class Handler(contracts.Orders):  # type: ignore[misc, name-defined]
            async def quote(self, request):  # type: ignore[no-untyped-def]
                return quote(parts=[part(sku=request.sku)])

            async def get_url_of(self, request):  # type: ignore[no-untyped-def]
                return request

            async def watch(self, request):  # type: ignore[no-untyped-def]
                for sku in request.prices:
                    yield part(sku=sku)

            async def total(self, requests):  # type: ignore[no-untyped-def]
                return other.Sum(value=sum([len(each.sku) async for each in requests]))

            async def talk(self, requests):  # type: ignore[no-untyped-def]
                async for each in requests:
                    yield each

            async def import_(self, request):  # type: ignore[no-untyped-def]
                return quote()

        for name, method in types.items():
            getattr(Handler, name).__annotations__.update(get_type_hints(getattr(contracts.Orders, name)))
            assert method.request is not None
        service = Service("gen-orders", version="1.4.0", broker="memory://gen")
        service.implements(contracts.Orders, Handler())
        async with service, Client("memory://gen") as client:
            orders = client.stub(contracts.Orders)
            assert await orders.quote(request(sku="tea")) == quote(parts=[part(sku="tea")])
            assert [each.sku async for each in orders.watch(request(prices={"tea": 1.0}))] == ["tea"]
            assert (await orders.total(items(part(sku="tea"), part(sku="salt")))).value == 7
            assert [each.sku async for each in orders.talk(items(request(sku="a"), request(sku="b")))] == ["a", "b"]
            assert await orders.import_(request()) == quote()


BAD = 'syntax = "proto3";\nmessage A {}\nservice S {\n  rpc A(A) returns (A);\n  rpc B(Nothing) returns (.A);\n}\n'


def test_a_file_with_errors_is_refused_in_the_words_of_protoc_with_file_and_line(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as refused:
        generate(write(tmp_path, {"bad.proto": BAD}), tmp_path, [tmp_path])
    said = str(refused.value).replace(f"{tmp_path}/", "").splitlines()
    assert said[0] == 'bad.proto:4:9: "A" is not a message type.'
    assert 'bad.proto:5:9: "Nothing" is not defined.' in said
    assert list(tmp_path.glob("*.py")) == []


CANNOT_BE_NAMED = {
    'rpc A(M) returns (M) { option (eventmicro.v1.method).name = "a.b"; }': "odd.proto:4:13: A: endpoint name 'a.b'",
    'option (eventmicro.v1.service).name = "a b";': "odd.proto:4:1: S: service name 'a b'",
    'option (eventmicro.v1.service).version = "one";': "odd.proto:4:1: S: version='one'",
    "rpc A(None) returns (M);": "odd.proto: 'None' of None is no name in Python",
}


@pytest.mark.parametrize("body", CANNOT_BE_NAMED)
def test_what_cannot_be_a_contract_names_file_and_line_too(body: str, tmp_path: Path) -> None:
    source = (
        f'syntax = "proto3"; message M {{}} message None {{}}\n'
        f'import "eventmicro_schemas/v1/options.proto";\n\nservice S {{ {body} }}\n'
    )
    with pytest.raises(UsageError) as refused:
        generate(write(tmp_path, {"odd.proto": source}), tmp_path, [tmp_path])
    assert CANNOT_BE_NAMED[body] in str(refused.value).splitlines()[-1]


def test_a_file_or_a_folder_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"Could not make proto path relative|No such file"):
        generate([tmp_path / "none.proto"], tmp_path, [tmp_path])
    with pytest.raises(UsageError, match="there is no folder"):
        generate([tmp_path / "none.proto"], tmp_path, [tmp_path / "none"])


def test_without_protoc_it_is_said_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("eventmicro.generating.protoc.find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"pip install 'eventmicro\[generate\]'"):
        generate([tmp_path / "any.proto"], tmp_path)


def test_the_plugin_knows_optional_fields_and_editions() -> None:
    response = answer(plugin_pb2.CodeGeneratorRequest())
    feature = plugin_pb2.CodeGeneratorResponse.Feature
    assert response.supported_features == feature.FEATURE_PROTO3_OPTIONAL | feature.FEATURE_SUPPORTS_EDITIONS
    assert response.minimum_edition <= 1000 <= response.maximum_edition
