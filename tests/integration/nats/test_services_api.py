"""The NATS Services API between us and others: their programs list our services, and we call theirs."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import nats
import nats.micro
import pytest
from jsonschema import Draft7Validator
from nats.micro.request import Request
from nats.micro.service import ServiceInfo, ServicePing

from eventmicro import BadRequest, Client, NotFound, Service, ServiceError
from eventmicro.discovery.listing import list_all
from tests.servers.golang import installed, module
from tests.servers.npm import run_script
from tests.servers.process import ServerUnavailable

# NATS' own schemas of the answers, by which its command-line tool goes, and that tool.
SCHEMAS = "github.com/nats-io/jsm.go@v0.5.1"
TOOL = "github.com/nats-io/natscli/nats@v0.5.1"

LIST = """
import { connect } from "@nats-io/transport-node";
import { Svcm } from "@nats-io/services";
const connection = await connect({ servers: process.argv[2] });
const client = new Svcm(connection).client({ maxWait: 1000 });
const found = {};
for (const verb of ["ping", "info", "stats"]) {
  found[verb] = [];
  for await (const answer of await client[verb](process.argv[3])) found[verb].push(answer);
}
console.log(JSON.stringify(found));
await connection.drain();
"""


@asynccontextmanager
async def orders(nats_url: str) -> AsyncIterator[None]:
    service = Service(
        "listed", version="1.2.3", description="Takes orders.", metadata={"team": "shop"}, broker=nats_url
    )

    @service.rpc
    async def double(number: int) -> int:
        return 2 * number

    async with service:
        yield


async def ask(nats_url: str, subject: str) -> dict[str, Any]:
    connection = await nats.connect(nats_url)
    try:
        return json.loads((await connection.request(subject, timeout=5)).data)  # type: ignore[no-any-return]
    finally:
        await connection.close()


async def test_nats_pys_own_reader_takes_what_we_answer(nats_url: str) -> None:
    async with orders(nats_url), Client(nats_url) as client:
        for number in range(3):
            await client.call("listed.double", number, int)
        ping = ServicePing.from_dict(await ask(nats_url, "$SRV.PING.listed"))
        info = ServiceInfo.from_dict(await ask(nats_url, "$SRV.INFO.listed"))
        form = await ask(nats_url, "$SRV.STATS.listed")
    assert (ping.name, ping.version, ping.metadata["team"]) == ("listed", "1.2.3", "shop")
    assert (info.description, [each.subject for each in info.endpoints]) == ("Takes orders.", ["listed.double"])
    assert (form["endpoints"][0]["num_requests"], form["endpoints"][0]["num_errors"]) == (3, 0)


async def test_the_javascript_client_lists_our_services(nats_url: str) -> None:
    try:
        async with orders(nats_url):
            printed = await asyncio.to_thread(run_script, LIST, nats_url, "listed")
    except ServerUnavailable as error:
        pytest.skip(str(error))
    found = json.loads(printed)
    for verb in ("ping", "info", "stats"):
        (answer,) = found[verb]
        assert (answer["type"], answer["name"]) == (f"io.nats.micro.v1.{verb}_response", "listed")
    assert found["info"][0]["endpoints"][0]["name"] == "double"
    assert found["stats"][0]["endpoints"][0]["processing_time"] == 0


async def test_what_is_answered_is_valid_by_the_public_schemas(nats_url: str) -> None:
    try:
        folder = (await asyncio.to_thread(module, SCHEMAS)) / "schemas" / "micro" / "v1"
    except ServerUnavailable as error:
        pytest.skip(str(error))
    verbs = ("PING", "INFO", "STATS")
    valid = {
        verb: Draft7Validator(json.loads((folder / f"{verb.lower()}_response.json").read_bytes())) for verb in verbs
    }
    bare, full = Service("valid-bare", id="1", broker=nats_url), Service(
        "valid_full", version="1.2.3-rc.1+build.7", id="full-1", description="Größe “quoted”\nsecond line",
        metadata={"zone": "eu", "größe": "ü"}, broker=nats_url,
    )  # fmt: skip

    @full.rpc(idempotent=True, timeout=2.5)
    async def double(number: int) -> int:
        if number < 0:
            raise BadRequest("less\nthan nothing: ü")
        return 2 * number

    @full.rpc
    async def count(upto: int) -> AsyncIterator[int]:
        for number in range(upto):
            yield number

    @full.rpc(internal=True)
    async def hidden() -> None: ...

    @full.subscribe("valid.placed")
    async def bill(number: int) -> None: ...

    forms = []
    async with bare, full, Client(nats_url) as client:
        for number in (1, -1, 2):
            with suppress(ServiceError):
                await client.call("valid_full.double", number, int)
        for service in (bare, full):
            for verb in verbs:
                for subject in (f"$SRV.{verb}.{service.name}", f"$SRV.{verb}.{service.name}.{service.id}"):
                    forms.append(form := await ask(nats_url, subject))
                    assert [error.message for error in valid[verb].iter_errors(form)] == []
                    assert form["id"] == service.id
    assert len(forms) == 12
    assert [error.validator for error in valid["STATS"].iter_errors(forms[-1] | {"started": None})] == ["type"]


async def test_the_standard_command_line_tool_lists_and_asks_our_services(nats_url: str) -> None:
    try:
        tool = await asyncio.to_thread(installed, TOOL)
    except ServerUnavailable as error:
        pytest.skip(str(error))

    async def nats_cli(*arguments: str) -> str:
        command = (str(tool), "--server", nats_url, "micro", *arguments)
        process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
        printed, _ = await process.communicate()
        assert process.returncode == 0
        return printed.decode()

    async with orders(nats_url):
        assert "listed" in await nats_cli("ls")
        assert "listed.double" in await nats_cli("info", "listed")
        assert "double" in await nats_cli("stats", "listed")
        assert "listed" in await nats_cli("ping", "listed")
        assert "42" in await nats_cli("request", "listed", "double", "21")


async def test_a_foreign_service_is_called_and_listed_as_any(nats_url: str) -> None:
    connection = await nats.connect(nats_url)
    service = await nats.micro.add_service(connection, name="foreign", version="2.0.0", description="Another's.")

    async def hello(request: Request) -> None:
        await request.respond(b'"hello ' + request.data.strip(b'"') + b'"')

    async def fail(request: Request) -> None:
        await request.respond_error("404", "no such name", data=b"")

    await service.add_endpoint(name="hello", subject="hi.there", handler=hello)
    await service.add_endpoint(name="fail", subject="foreign.fail", handler=fail)
    await connection.flush()
    try:
        async with Client(nats_url) as client:
            assert await client.call("foreign.hello", "you", str) == "hello you"
            with pytest.raises(NotFound, match="no such name"):
                await client.call("foreign.fail")
            with pytest.raises(NotFound, match="'foreign' has no endpoint 'bye': there are fail, hello"):
                await client.call("foreign.bye")
            with pytest.raises(ServiceError, match=r"another framework.* without selector, filters and key"):
                await client.call("foreign.hello", "you", str, selector="random")
            await client.ready("foreign", timeout=5)
            (record,) = await list_all(client.rpc_broker, client.registry, "foreign")
    finally:
        await service.stop()
        await connection.close()
    assert (record.version, record.nodes[0].is_foreign) == ("2.0.0", True)
    assert [each.name for each in record.endpoints] == ["hello", "fail"]


async def test_a_service_is_gone_from_all_lists_when_it_has_stopped(nats_url: str) -> None:
    async with Client(nats_url) as client:
        async with Service("passing", broker=nats_url):
            assert [each.name for each in await list_all(client.rpc_broker, client.registry, "passing")] == ["passing"]
        assert await list_all(client.rpc_broker, client.registry, "passing") == []
