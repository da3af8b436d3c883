"""The health port: an HTTP port for orchestrators, which look whether the services of this process live, and are ready,
and for Prometheus, which looks what they have done.

`GET /health/live` and `/health/ready` answer 200 or 503, `/health` 200 or 503 as `/health/ready` does, each with the
health of all services as JSON; `/metrics` with their figures in Prometheus' text format. It reads no more than a
request's head, of a bounded length, within a few seconds.
"""

from __future__ import annotations

import asyncio
import errno
import json
import os
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from http import HTTPStatus
from typing import TYPE_CHECKING, Protocol

from eventmicro.errors import EventMicroError, UsageError
from eventmicro.wire import JSON

if TYPE_CHECKING:
    from eventmicro.discovery.health import Health
    from eventmicro.discovery.report import NodeStatistics

# How long a client may take to ask, and to take the answer, in seconds; how long its question may be, in bytes.
PATIENCE = 10.0
LONGEST = 8192
LIVE = "/health/live"
METRICS = "/metrics"


class HasHealth(Protocol):
    """A service, as far as its health goes."""

    @property
    def name(self) -> str: ...
    @property
    def awaited(self) -> str: ...
    async def health(self) -> Health: ...
    def statistics(self) -> NodeStatistics: ...
    async def look_at_queues(self) -> None: ...


@asynccontextmanager
async def health_port(
    services: Sequence[HasHealth], host: str, port: int, changing: Callable[[], bool] = lambda: False
) -> AsyncIterator[int]:
    """Answer for these services as long as the block lasts.

    Args:
        host: the address to listen on.
        port: 0: any free one; it yields which.
        changing: whether they are being started or stopped: one that cannot be asked then lives, and is not ready.

    Raises:
        UsageError: the port is taken, or not allowed.
    """
    connections: set[asyncio.StreamWriter] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.add(writer)
        try:
            async with asyncio.timeout(PATIENCE):
                await _answer(services, changing, reader, writer)
        except (TimeoutError, OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass  # who asks so gets no answer
        finally:
            connections.discard(writer)
            writer.close()

    try:
        server = await asyncio.start_server(serve, host, port, limit=LONGEST)
    except (OSError, OverflowError) as error:
        raise UsageError(f"--health-port {port}: {_why_not(host, port, error)}") from None
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for writer in connections:  # one that is silent would hold up the end
            writer.transport.abort()
        await server.wait_closed()


def _why_not(host: str, port: int, error: Exception) -> str:
    """Why a port cannot be opened, without what asyncio puts around it."""
    if not isinstance(error, OSError) or error.errno is None:
        return str(error)
    if error.errno == errno.EADDRINUSE:
        return f"another process listens at {host}:{port}; name another port, 0 is any free one"
    return f"cannot listen at {host}:{port}: {os.strerror(error.errno) if error.errno > 0 else error}"


async def _answer(
    services: Sequence[HasHealth],
    changing: Callable[[], bool],
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
) -> None:
    head = await reader.readuntil(b"\r\n\r\n")
    method, _, rest = head.partition(b" ")
    path = rest.partition(b" ")[0].partition(b"?")[0].decode("latin-1")
    status, body = HTTPStatus.NOT_FOUND, b'{"detail":"there are /health, /health/live, /health/ready and /metrics"}'
    kind = JSON
    if method not in (b"GET", b"HEAD"):
        status, body = HTTPStatus.METHOD_NOT_ALLOWED, b'{"detail":"GET it"}'
    elif path in _LOOKS:
        status, body = await _look(services, _LOOKS[path], unknown_is_well=path == LIVE and changing())
    elif path == METRICS:
        status, (kind, body) = HTTPStatus.OK, await _metrics(services)
    lines = (
        f"HTTP/1.1 {status.value} {status.phrase}",
        f"Content-Type: {kind}",
        f"Content-Length: {len(body)}",
        "Cache-Control: no-store",
        "Connection: close",
        "\r\n",
    )
    writer.write("\r\n".join(lines).encode() + (b"" if method == b"HEAD" else body))
    await writer.drain()


async def _look(
    services: Sequence[HasHealth], is_well: Callable[[Health], bool], *, unknown_is_well: bool
) -> tuple[HTTPStatus, bytes]:
    found = await asyncio.gather(*(_health_of(service) for service in services))
    forms = {s.name: _unknown(s) if h is None else h.model_dump(mode="json") for s, h in found}
    well = all(unknown_is_well if health is None else is_well(health) for _, health in found)
    return HTTPStatus.OK if well else HTTPStatus.SERVICE_UNAVAILABLE, json.dumps(forms).encode() + b"\n"


async def _health_of(service: HasHealth) -> tuple[HasHealth, Health | None]:
    try:
        return service, await service.health()
    except EventMicroError:  # it starts or stops
        return service, None


def _unknown(service: HasHealth) -> dict[str, str] | None:
    """What is said of a service that cannot be asked: what its start waits for, if that is why."""
    return {"status": "waiting", "needs": service.awaited} if service.awaited else None


async def _metrics(services: Sequence[HasHealth]) -> tuple[str, bytes]:
    from eventmicro.telemetry.prometheus import CONTENT_TYPE, own_metrics, write_metrics

    nodes = []
    await asyncio.gather(*(_look_at_queues(service) for service in services))
    for service in services:
        with suppress(EventMicroError):  # it starts or stops
            nodes.append(service.statistics())
    return CONTENT_TYPE, (write_metrics(nodes) + own_metrics()).encode()


async def _look_at_queues(service: HasHealth) -> None:
    with suppress(EventMicroError):
        await service.look_at_queues()


_LOOKS: Mapping[str, Callable[[Health], bool]] = {
    "/health": lambda health: health.ready,
    "/health/ready": lambda health: health.ready,
    LIVE: lambda health: health.live,
}
