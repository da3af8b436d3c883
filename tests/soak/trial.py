"""One broker: its cluster, proxies in front, subscribers and a publisher, the faults one after the other."""

from __future__ import annotations

import asyncio
import logging
import shutil
import time
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Any

from eventmicro.message import Delivery
from tests.delivery.bench import Bench, values
from tests.servers import FaultProxy
from tests.servers.cluster import Cluster
from tests.servers.kafka_cluster import KafkaCluster
from tests.servers.nats_cluster import NatsCluster
from tests.servers.process import ServerProcess, free_port
from tests.servers.rabbitmq_cluster import RabbitCluster
from tests.soak.count import lost
from tests.soak.facts import Facts, Queue
from tests.soak.faults import Faults
from tests.soak.load import Load
from tests.soak.patience import Stuck, aside, reach, stop
from tests.soak.plan import SUBSCRIBERS, Fault
from tests.soak.subscribers import QUEUES, SubscriberProcess

CLUSTERS: dict[str, Callable[[], Cluster[Any]]] = {
    "jetstream": NatsCluster,
    "rabbitmq": RabbitCluster,
    "kafka": KafkaCluster,
}
log = logging.getLogger(__name__)


class Trial:
    """One run on one broker.

    Args:
        broker: one of CLUSTERS.
        faults: what is broken, in this order.
        events: how many are published, spread over the faults.
        logs: the folder that gets the logs of all processes.
    """

    def __init__(self, broker: str, faults: Sequence[Fault], events: int, logs: Path) -> None:
        self._broker, self._plan, self._events, self._logs = broker, faults, events, logs
        self.facts = Facts(queues={name: Queue(ordered=order_by is not None) for name, order_by in QUEUES.items()})
        self._letters: dict[str, list[Delivery]] = {}
        self._subscribers: list[SubscriberProcess] = []

    async def run(self) -> Facts:
        """Run it to the end; the facts."""
        async with self._cluster() as (cluster, proxies), self._subscribed(cluster) as bench:
            faults = Faults(cluster, proxies, self._subscribers, self.facts)
            try:
                await self._publish_under(faults, bench)
                for subscriber in self._subscribers:
                    await aside(stop, subscriber)
            finally:
                self._take_notes()
                self.facts.end = time.monotonic()
        return self.facts

    async def _publish_under(self, faults: Faults, bench: Bench) -> None:
        load = Load(bench, self.facts, self._events)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(aside(load.run))
            try:
                for number, fault in enumerate(self._plan):
                    await load.under_way(self._share(number), fault.pace)
                    await self._apply(fault, faults)
                    await load.done()
                    if fault.calm:
                        await self._all_handled()
            finally:
                load.end()
        await self._all_handled()

    async def _apply(self, fault: Fault, faults: Faults) -> None:
        log.info("%s", fault)
        self.facts.faults.append((time.monotonic(), str(fault)))
        await faults.apply(fault)
        log.info("mended")

    def _share(self, number: int) -> int:
        """How many events are published about the fault of this number."""
        return self._events * (number + 1) // len(self._plan) - self._events * number // len(self._plan)

    async def _all_handled(self) -> None:
        """Return when all that is confirmed is handled, or nothing more of it has been for a long time."""
        confirmed = len(self.facts.confirmed)
        try:
            await reach(lambda: confirmed - self._left(), confirmed, "handled", step=0.5)
        except Stuck as stuck:
            log.error("%s", stuck)

    def _left(self) -> int:
        self._take_notes()
        return max(len(lost(self.facts, queue)) for queue in self.facts.queues.values())

    def _take_notes(self) -> None:
        for subscriber in self._subscribers:
            subscriber.notes.take(self.facts)
        for name, letters in self._letters.items():
            self.facts.queues[name].given_up.update(values(letters))

    # -- what is started -------------------------------------------------------------------------------------------

    @asynccontextmanager
    async def _cluster(self) -> AsyncIterator[tuple[Cluster[Any], list[FaultProxy]]]:
        """Nodes that clients reach through proxies only."""
        cluster = CLUSTERS[self._broker]()
        proxies = [FaultProxy(node.port, free_port()) for node in cluster.nodes]
        cluster.ports = [proxy.port for proxy in proxies]
        try:
            async with AsyncExitStack() as running:
                for proxy in proxies:
                    await running.enter_async_context(proxy)
                await aside(cluster.start)
                yield cluster, proxies
        finally:
            self._keep_logs(cluster.nodes)
            cluster.stop()

    @asynccontextmanager
    async def _subscribed(self, cluster: Cluster[Any]) -> AsyncIterator[Bench]:
        """Subscribers that are ready, and somebody who collects their dead letters."""
        bench = Bench(cluster.url)
        self._subscribers = [SubscriberProcess(bench) for _ in range(SUBSCRIBERS)]
        try:
            async with AsyncExitStack() as letters:
                for name in QUEUES:
                    self._letters[name] = await letters.enter_async_context(bench.letters(f"dead.{bench.name}.{name}"))
                await asyncio.gather(*(aside(subscriber.start) for subscriber in self._subscribers))
                yield bench
        finally:
            self._keep_logs(self._subscribers)
            for subscriber in self._subscribers:
                subscriber.__exit__()

    def _keep_logs(self, processes: Iterable[ServerProcess]) -> None:
        for number, process in enumerate(processes):
            with suppress(FileNotFoundError):  # it was never started
                shutil.copy(process.log, self._logs / f"{process.name}-{number}.log")
