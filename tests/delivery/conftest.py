"""Every delivery test runs on every broker that keeps events; what one does not promise is said when it is left out."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Iterator

import pytest

from tests.conformance.servers import Restartable
from tests.delivery.bench import Bench, Until
from tests.servers.process import ServerProcess
from tests.servers.sharing import KINDS

BROKERS = ("memory", "jetstream", "rabbitmq", "kafka")
# How long anything may take that is waited for here, in seconds: a broker's leases and group sessions are in it.
LIMIT = 120.0


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "needs(*capabilities): what a broker must declare for this test")


@pytest.fixture(params=BROKERS)
def bench(request: pytest.FixtureRequest) -> Bench:
    """A bench on a shared server."""
    kind = request.param
    url = f"memory://{secrets.token_hex(4)}" if kind == "memory" else request.getfixturevalue(f"{kind}_url")
    bench = Bench(url + settings(kind))
    leave_out(request, bench, kind)
    return bench


@pytest.fixture(scope="module", params=[kind for kind in BROKERS if kind != "memory"])
def restartable(request: pytest.FixtureRequest) -> Iterator[Restartable]:
    """One of each kind for all the tests that end a server."""
    with Restartable(KINDS[request.param].server()) as server:
        yield server


@pytest.fixture
def own_server(restartable: Restartable) -> Restartable:
    """A server that runs, and that no other test uses meanwhile: it may be killed."""
    restartable.revive()
    return restartable


@pytest.fixture
def own_bench(request: pytest.FixtureRequest, own_server: Restartable) -> Bench:
    """A bench on it."""
    bench = Bench(url_of(own_server.server))
    leave_out(request, bench, own_server.server.name)
    return bench


def url_of(server: ServerProcess, port: int | None = None) -> str:
    """The URL under which its events are kept; on another port, where a proxy is in between."""
    kind = "jetstream" if server.name == "nats" else server.name
    address = server.url.partition(":")[2]
    if port is not None:
        address = address.replace(str(server.port), str(port))
    return f"{KINDS[kind].scheme}:{address}{settings(kind)}"


def settings(kind: str) -> str:
    """A lease that is short enough to be seen running out."""
    return {"jetstream": "?ack_wait=1"}.get(kind, "")


def leave_out(request: pytest.FixtureRequest, bench: Bench, kind: str) -> None:
    """Skip a test that needs what its broker does not declare."""
    mark = request.node.get_closest_marker("needs")
    lacking = [name for name in (mark.args if mark else ()) if not getattr(bench.capabilities, name)]
    if lacking:
        pytest.skip(f"{kind} does not declare {', '.join(lacking)}")


@pytest.fixture
def until() -> Until:
    """`await until(lambda: len(seen) == 3)`: return as soon as it is true; fail after a while."""

    async def until(condition: Callable[[], object]) -> None:
        try:
            async with asyncio.timeout(LIMIT):
                while not condition():
                    await asyncio.sleep(0.005)
        except TimeoutError:
            pytest.fail(f"what was waited for did not come about within {LIMIT:g} s")

    return until
