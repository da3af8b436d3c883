"""The NATS Services API between us and others: their programs list our services, and we call theirs."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import nats
import nats.micro
import pytest
from nats.micro.request import Request
from nats.micro.service import ServiceInfo, ServicePing

from eventmicro import Client, NotFound, Service
from eventmicro.discovery.listing import list_all
from tests.servers.npm import run_script
from tests.servers.process import ServerUnavailable

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


@pytest.mark.skipif(shutil.which("nats") is None, reason="NATS' own command-line tool is not here: install natscli")
async def test_the_standard_command_line_tool_lists_and_asks_our_services(nats_url: str) -> None:
    async def nats_cli(*arguments: str) -> str:
        command = ("nats", "--server", nats_url, "micro", *arguments)
        process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
        printed, _ = await process.communicate()
        assert process.returncode == 0
        return printed.decode()

    async with orders(nats_url):
        assert "listed" in await nats_cli("ls")
        assert "listed.double" in await nats_cli("info", "listed")
        assert "double" in await nats_cli("stats", "listed")
        assert "listed" in await nats_cli("ping", "listed")


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
