"""Client: what calls endpoints and publishes events, over one connection or two."""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import AsyncExitStack

from eventmicro.broker import Broker
from eventmicro.checks import check_seconds
from eventmicro.codec import Codec
from eventmicro.codecs import Codecs
from eventmicro.embedded import describe_last
from eventmicro.embedded import find as find_embedded
from eventmicro.errors import UsageError
from eventmicro.events.publisher import EventPublisher, PublishesEvents
from eventmicro.events.publishing import Outgoing, Publishing, check_publishing
from eventmicro.lifetime import Lifetime
from eventmicro.middleware import Middleware, check_middleware
from eventmicro.plugins import BROKER_VARIABLE, NO_BROKER, RPC_BROKER_VARIABLE, check_broker, open_broker
from eventmicro.rpc.client import DEFAULT_TIMEOUT, CallsEndpoints, RpcClient


class Client(Lifetime, CallsEndpoints, PublishesEvents):
    """Calls endpoints and publishes events over one broker; used by `async with`, or by `connect` and `close`.

    Args:
        broker: a URL such as `nats://127.0.0.1:4222`, or a Broker. One that is connected already stays connected at the
            end: who opened it closes it. Default: what `EVENTMICRO_BROKER` says, or else the embedded server that
            `eventmicro run` has started on this machine.
        rpc_broker: the broker for calls where `broker` carries none, as RabbitMQ and Kafka; default: what
            `EVENTMICRO_RPC_BROKER` says, or else the same.
        middleware: what runs around each call and each publish; the first is the outermost.
        codecs: codecs of your own, asked before the ready-made ones.
        timeout: how long a call waits where it does not say so itself, in seconds.
        publishing: how long publishing waits for the broker, and what it does while that is away.
    """

    def __init__(
        self,
        broker: str | Broker | None = None,
        *,
        rpc_broker: str | Broker | None = None,
        middleware: Iterable[Middleware] = (),
        codecs: Iterable[Codec] = (),
        timeout: float = DEFAULT_TIMEOUT,
        publishing: Publishing | None = None,
    ) -> None:
        check_broker("broker", broker)
        check_broker("rpc_broker", rpc_broker)
        check_publishing(publishing)
        check_seconds("timeout", timeout)
        broker = broker or os.environ.get(BROKER_VARIABLE) or find_embedded()
        if not broker:
            raise UsageError(NO_BROKER + describe_last())
        rpc_broker = rpc_broker or os.environ.get(RPC_BROKER_VARIABLE) or broker
        self.broker = open_broker(broker)
        self.rpc_broker = self.broker if rpc_broker == broker else open_broker(rpc_broker)
        self.outgoing = Outgoing(self.broker, publishing or Publishing())
        middleware, own = check_middleware(middleware), Codecs(codecs)
        self._calls = RpcClient(self.rpc_broker, own, middleware, timeout)
        self._events = EventPublisher(self.outgoing, own, middleware)
        self._owned: list[Broker] = []

    @property
    def timeout(self) -> float:
        """How long a call waits where it does not say so itself, in seconds."""
        return self._calls.timeout

    @property
    def _caller(self) -> RpcClient:
        return self._calls

    @property
    def _publisher(self) -> EventPublisher:
        return self._events

    async def connect(self) -> None:
        """Connect the brokers that are not connected.

        Raises:
            ConnectionFailed: no broker answered; nothing is left open.
        """
        try:
            for broker in dict.fromkeys((self.broker, self.rpc_broker)):
                if not broker.connected:
                    await broker.connect()
                    self._owned.append(broker)
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """Send what was published and close what `connect` opened. A second call does nothing."""
        owned, self._owned = self._owned, []
        async with AsyncExitStack() as stack:  # each is closed, whatever fails
            for broker in owned:
                stack.push_async_callback(broker.close)
            stack.push_async_callback(self.outgoing.close)
            stack.push_async_callback(self._calls.close)
