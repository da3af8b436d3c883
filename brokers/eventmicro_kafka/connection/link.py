"""Link: whether the cluster is there, and requests about it."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from typing import Any

from aiokafka.errors import NodeNotReadyError  # type: ignore[import-untyped]
from aiokafka.protocol.coordination import FindCoordinatorRequest  # type: ignore[import-untyped]
from aiokafka.protocol.metadata import MetadataRequest  # type: ignore[import-untyped]

from eventmicro.errors import ConnectionFailed, Disconnected
from eventmicro_kafka.connection.driver import make_client
from eventmicro_kafka.connection.ending import drop_if_silent, end_tasks, stop_client
from eventmicro_kafka.connection.group import groups_of, raise_for
from eventmicro_kafka.errors import KafkaError, is_final, plain, why_not_connected
from eventmicro_kafka.settings import KafkaSettings

log = logging.getLogger(__name__)

# How long to wait between two tries to connect, and between two pings of a cluster that is away, in seconds.
TRY_INTERVAL = 0.25
_GROUP = 0  # of the kinds of coordinators, that of groups


class Link:
    """A connection of its own to the cluster, which is pinged on it.

    `online` says whether the last ping was answered, `reconnects` how often it was again.
    """

    def __init__(self, settings: KafkaSettings, url: str) -> None:
        self._settings = settings
        self._url = url
        self._client: Any = None
        self._watching: asyncio.Task[None] | None = None
        self._back = asyncio.Event()
        self._closed = False
        self.online = False
        self.reconnects = 0

    async def open(self) -> None:
        """Connect within `connect_timeout`, trying again where that may help.

        Raises:
            ConnectionFailed: no server answered in time, or it refused; nothing is left open.
        """
        last: BaseException | None = None
        try:
            async with asyncio.timeout(self._settings.connect_timeout):
                while self._client is None:
                    last = await self._try_once()
                    if last is not None and is_final(last):
                        break
                    if last is not None:
                        await asyncio.sleep(TRY_INTERVAL)
        except TimeoutError:
            pass
        if self._client is None:
            where = ", ".join(self._settings.servers)
            settings = self._settings
            text = why_not_connected(last, where, settings.wants_tls, settings.connect_timeout, settings.sasl)
            raise ConnectionFailed(text) from last
        self._set_online()
        self._watching = asyncio.create_task(self._watch(), name=f"eventmicro kafka watch {self._url}")

    async def close(self) -> None:
        """End it, whether the cluster listens or not."""
        self._closed, self.online = True, False
        self._back.set()
        await end_tasks(lambda: [] if self._watching is None else [self._watching])
        client, self._client = self._client, None
        if client is not None:
            await stop_client(client)

    async def wait_online(self) -> None:
        """Return when the cluster is there.

        Raises:
            Disconnected: the connection was closed.
        """
        while not self.online:
            if self._closed:
                raise Disconnected(f"{self._url} is closed")
            await self._back.wait()

    async def request(self, request: Any) -> Any:
        """The answer of the controller, or of any broker where that is not known.

        Raises:
            Disconnected: no broker answered.
        """
        try:
            async with asyncio.timeout(self._settings.request_timeout):
                await self.wait_online()
                return await self._send(self._client, self._controller(), request)
        except (KafkaError, OSError, TimeoutError) as error:
            raise Disconnected(f"{self._url}: {plain(error)}") from error

    async def send(self, node: int, request: Any) -> Any:
        """The answer of one node.

        Raises:
            KafkaError, OSError: it does not answer.
            Disconnected: the connection was closed.
        """
        client = self._there()
        if client.cluster.broker_metadata(node) is None:  # it is new
            await client.force_metadata_update()
            raise NodeNotReadyError(f"node {node} is not known")
        return await self._send(client, node, request)

    async def coordinator(self, group: str) -> int:
        """The node that is the coordinator of a group now; errors as of `send`, and what that node says."""
        answer = await self.send(self._there().get_random_node(), FindCoordinatorRequest(group, _GROUP))
        raise_for(answer.error_code)
        return int(answer.coordinator_id)

    async def groups(self) -> list[str]:
        """The consumer groups of the whole cluster, as far as they may be seen from here.

        Raises:
            Disconnected: a node did not answer.
        """
        try:
            async with asyncio.timeout(self._settings.request_timeout):
                await self.wait_online()
                nodes = [broker.nodeId for broker in self._client.cluster.brokers()]
                found = [await groups_of(self._client, node) for node in nodes]
        except (KafkaError, OSError, TimeoutError) as error:
            raise Disconnected(f"{self._url}: {plain(error)}") from error
        return sorted({name for names in found for name in names})

    async def ping(self, timeout: float) -> None:
        """Return when a broker has answered.

        Raises:
            Disconnected: none did, for so many seconds; or the connection was closed.
        """
        try:
            async with asyncio.timeout(timeout):
                while not await self._is_there():  # noqa: ASYNC110  it is asked for
                    await asyncio.sleep(TRY_INTERVAL)
        except TimeoutError:
            raise Disconnected(f"{self._url}: no broker answered within {timeout:g} s") from None

    async def _try_once(self) -> BaseException | None:
        """Connect to one of the servers; what was the trouble with the last of them, if it was with all."""
        client = make_client(self._settings)
        try:
            await client.bootstrap()
        except KafkaError as error:
            await stop_client(client)
            return error.__cause__ if isinstance(error.__cause__, OSError | EOFError) else error
        except BaseException:
            await stop_client(client)
            raise
        self._client = client
        return None

    async def _watch(self) -> None:
        """Ping for ever, and say when the cluster goes and comes."""
        while True:
            await asyncio.sleep(self._settings.ping_interval if self.online else TRY_INTERVAL)
            try:
                async with asyncio.timeout(self._settings.ping_interval):
                    there = await self._is_there()
            except Exception as error:  # aiokafka's own failures among them
                log.debug("%s: %s", self._url, plain(error))
                there = False
            if there and not self.online:
                log.warning("%s: connected again", self._url)
                self.reconnects += 1
                self._set_online()
            elif self.online and not there:
                log.warning("%s: connection lost, reconnecting", self._url)
                self.online = False
                self._back.clear()

    async def _is_there(self) -> bool:
        client = self._there()
        nodes = [broker.nodeId for broker in client.cluster.brokers()]
        for node in nodes:
            with suppress(KafkaError, OSError):  # TimeoutError is an OSError
                async with asyncio.timeout(self._settings.ping_interval / len(nodes)):
                    await self._send(client, node, MetadataRequest([], False))
                return True
        if nodes:
            client.force_metadata_update()
        return False

    def _there(self) -> Any:
        if self._client is None:
            raise Disconnected(f"{self._url} is closed")
        return self._client

    async def _send(self, client: Any, node: Any, request: Any) -> Any:
        """The answer of a node. Who waits no longer has a connection that has fallen silent made anew."""
        try:
            return await client.send(node, request)
        except asyncio.CancelledError:
            drop_if_silent(client, node, self._settings.request_timeout)
            raise

    def _set_online(self) -> None:
        self.online = True
        self._back.set()

    def _controller(self) -> Any:
        controller = self._client.cluster.controller
        return self._client.get_random_node() if controller is None else controller.nodeId
