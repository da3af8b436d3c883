"""A stand-in for a Consul agent, in this process: what the registry uses of it, as Consul 1.14 was seen to answer.

Every test that it carries is also run on a real agent, where there is one.
"""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Self
from urllib.parse import parse_qs, unquote, urlsplit

from tests.servers.process import HOST

# How many connections of one client an agent takes, unless it is told otherwise.
CONNECTIONS = 200
UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0}


@dataclass
class Kept:
    """A service of the agent, with its check."""

    service: dict[str, Any]
    ttl: float
    status: str
    timer: asyncio.TimerHandle | None = field(default=None, repr=False)


class ConsulStub:
    """An agent on a free port; an async context manager.

    Attributes:
        asked: the method and the path of each request so far.
        most: how many connections there were at once.
        index: what counts the changes; a server that has lost its data begins anew with a lower one.
    """

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.index = 100
        self.most = 0
        self._kept: dict[str, Kept] = {}
        self._changed = asyncio.Condition()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._writers: list[asyncio.StreamWriter] = []
        self._ending = False

    @property
    def url(self) -> str:
        return f"consul://{HOST}:{self.port}"

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, HOST, 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        self._ending = True
        await self._bump()
        for writer in list(self._writers):
            writer.close()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for key in list(self._kept):
            self._drop(key)

    async def forget(self, *, index: int) -> None:
        """Lose all, as an agent does that keeps nothing and is started anew."""
        for key in list(self._kept):
            self._drop(key)
        self.index = index - 1
        await self._bump()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        self._writers.append(writer)
        self.most = max(self.most, len(self._writers))
        try:
            if len(self._writers) > CONNECTIONS:
                return
            with suppress(asyncio.IncompleteReadError, ConnectionError):
                while not self._ending:
                    await self._serve(reader, writer)
        finally:
            self._writers.remove(writer)
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        method, target, _ = head.split(" ", 2)
        length = next((int(line[15:]) for line in head.lower().split("\r\n") if line.startswith("content-length:")), 0)
        body = json.loads(await reader.readexactly(length) or b"null")
        self.asked.append(f"{method} {target.removeprefix('/v1/')}")
        url = urlsplit(target)
        status, answer = await self._answer(unquote(url.path).removeprefix("/v1/"), parse_qs(url.query), body)
        text = answer if isinstance(answer, str) else json.dumps(answer)
        lines = f"HTTP/1.1 {status} x\r\nX-Consul-Index: {self.index}\r\nContent-Length: {len(text.encode())}\r\n\r\n"
        writer.write(lines.encode() + text.encode())
        await writer.drain()

    async def _answer(self, path: str, query: dict[str, list[str]], body: Any) -> tuple[int, Any]:
        if path == "status/leader":
            return 200, '"127.0.0.1:8300"'
        if path == "agent/service/register":
            return await self._register(body)
        if path.startswith("agent/service/deregister/"):
            key = path.rpartition("/")[2]
            if key not in self._kept:
                return 404, f'Unknown service ID "{key}". Ensure that the service ID is passed, not the service name.'
            self._drop(key)
            await self._bump()
            return 200, ""
        if path.startswith("agent/check/pass/"):
            return await self._pass(path.rpartition("/")[2].removeprefix("eventmicro:"))
        await self._wait(query)
        passing = [kept for kept in self._kept.values() if kept.status == "passing"]
        if path == "health/state/passing":
            return 200, [{"Node": "one", "CheckID": "serfHealth"}, *map(_check, passing)]
        name = path.removeprefix("health/service/").lower()
        return 200, [{"Service": kept.service} for kept in passing if kept.service["Name"].lower() == name]

    async def _register(self, service: dict[str, Any]) -> tuple[int, Any]:
        if any(len(value) > 512 for value in service["Meta"].values()) or len(service["Meta"]) > 64:
            return 400, "Invalid Service Meta"
        check, former = service["Check"], self._kept.get(service["ID"])
        status = former.status if former is not None else check["Status"]  # a check that is there stays as it is
        self._drop(service["ID"])
        self._kept[service["ID"]] = Kept(service, read_time(check["TTL"]), status)
        self._start(service["ID"])
        await self._bump()
        return 200, ""

    async def _pass(self, key: str) -> tuple[int, Any]:
        if key not in self._kept:
            return 404, f'Unknown check ID "eventmicro:{key}". Ensure that the check ID is passed, not the check name.'
        self._start(key)
        if self._kept[key].status != "passing":
            self._kept[key].status = "passing"
            await self._bump()
        return 200, ""

    async def _wait(self, query: dict[str, list[str]]) -> None:
        """Until the index is past the one that is known, or the time is over."""
        known = int(query.get("index", ["0"])[0])
        with suppress(TimeoutError):
            async with asyncio.timeout(read_time(query["wait"][0]) if known else 0.01), self._changed:
                await self._changed.wait_for(lambda: self.index > known or self._ending)

    def _start(self, key: str) -> None:
        kept = self._kept[key]
        if kept.timer is not None:
            kept.timer.cancel()
        kept.timer = asyncio.get_running_loop().call_later(kept.ttl, self._expire, key)

    def _expire(self, key: str) -> None:
        self._kept[key].status = "critical"
        task = asyncio.ensure_future(self._bump())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _drop(self, key: str) -> None:
        kept = self._kept.pop(key, None)
        if kept is not None and kept.timer is not None:
            kept.timer.cancel()

    async def _bump(self) -> None:
        async with self._changed:
            self.index += 1
            self._changed.notify_all()


def _check(kept: Kept) -> dict[str, str]:
    check = kept.service["Check"]
    return {"Node": "one", "CheckID": check["CheckID"], "ServiceName": kept.service["Name"], "Notes": check["Notes"]}


def read_time(text: str) -> float:
    """A time as Go writes it, in seconds."""
    number = text.rstrip("ms")
    return float(number) * UNITS[text[len(number) :]]
