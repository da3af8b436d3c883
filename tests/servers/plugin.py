"""pytest: URLs of servers that the whole run shares, a skip where one cannot be had, a line on what was used."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.servers.multicast import check_multicast
from tests.servers.process import ServerUnavailable
from tests.servers.sharing import KINDS, Desk, SharedServers, ask, begin

# What `EVENTMICRO_REQUIRE` takes; JetStream is in nats.
PROGRAMS = {"nats", "rabbitmq", "kafka", "etcd", "consul", "mdns", "kerberos"}
SHARED = pytest.StashKey[SharedServers]()
DESK = pytest.StashKey[Desk]()


@pytest.fixture(scope="session")
def nats_url(pytestconfig: pytest.Config) -> str:
    """A nats-server that stores nothing."""
    return _url(pytestconfig, "nats")


@pytest.fixture(scope="session")
def jetstream_url(pytestconfig: pytest.Config) -> str:
    """A nats-server that stores streams: `jetstream://127.0.0.1:port`."""
    return _url(pytestconfig, "jetstream")


@pytest.fixture(scope="session")
def rabbitmq_url(pytestconfig: pytest.Config) -> str:
    """A RabbitMQ node: `amqp://guest:guest@127.0.0.1:port/`."""
    return _url(pytestconfig, "rabbitmq")


@pytest.fixture(scope="session")
def kafka_url(pytestconfig: pytest.Config) -> str:
    """A Kafka broker: `kafka://127.0.0.1:port`."""
    return _url(pytestconfig, "kafka")


@pytest.fixture(scope="session")
def etcd_url(pytestconfig: pytest.Config) -> str:
    """An etcd member: `etcd://127.0.0.1:port`."""
    return _url(pytestconfig, "etcd")


@pytest.fixture(scope="session")
def consul_url(pytestconfig: pytest.Config) -> str:
    """A Consul agent: `consul://127.0.0.1:port`."""
    return _url(pytestconfig, "consul")


@pytest.fixture(scope="session")
def mdns_url() -> str:
    """Multicast DNS on this machine alone: `mdns://127.0.0.1`."""
    check_multicast()
    return "mdns://127.0.0.1"


def _url(config: pytest.Config, kind: str) -> str:
    address = _desk_of_leader(config)
    return (ask(address, kind) if address else config.stash[SHARED].begin(kind).result()).url


def _desk_of_leader(config: pytest.Config) -> str:
    """Where a worker of pytest-xdist asks for servers; empty in the process that leads the run."""
    return str(getattr(config, "workerinput", {}).get("servers", ""))


def pytest_configure(config: pytest.Config) -> None:
    if unknown := required() - PROGRAMS:
        raise pytest.UsageError(f"EVENTMICRO_REQUIRE has {sorted(unknown)}; it takes {sorted(PROGRAMS)}")
    if not _desk_of_leader(config):
        config.stash[SHARED] = SharedServers()
        config.add_cleanup(config.stash[SHARED].close)


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """pytest-xdist calls this in the process that leads the run, for each worker."""
    config = node.config
    if DESK not in config.stash:
        config.stash[DESK] = Desk(config.stash[SHARED])
        config.add_cleanup(config.stash[DESK].close)
    node.workerinput["servers"] = config.stash[DESK].address


def pytest_collection_finish(session: pytest.Session) -> None:
    """Start what tests will ask for, while others run: RabbitMQ takes its seconds."""
    if session.config.option.collectonly:
        return
    address = _desk_of_leader(session.config)
    for kind in KINDS:
        if any(f"{kind}_url" in getattr(item, "fixturenames", ()) for item in session.items):
            if address:
                begin(address, kind)
            else:
                session.config.stash[SHARED].begin(kind)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup() -> Generator[None, Any, Any]:
    with _skip_without_server():
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call() -> Generator[None, Any, Any]:
    with _skip_without_server():
        return (yield)


@contextmanager
def _skip_without_server() -> Iterator[None]:
    try:
        yield
    except ServerUnavailable as error:
        if error.name in required():
            pytest.fail(f"EVENTMICRO_REQUIRE has {error.name}, but: {error}", pytrace=False)
        pytest.skip(str(error))


def required() -> set[str]:
    """The servers that must be there: the names in `EVENTMICRO_REQUIRE`, separated by commas."""
    return {name.strip() for name in os.environ.get("EVENTMICRO_REQUIRE", "").split(",") if name.strip()}


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if SHARED in config.stash:
        terminalreporter.write_line(config.stash[SHARED].report())
