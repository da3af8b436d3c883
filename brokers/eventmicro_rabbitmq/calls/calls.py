"""Calls of one connection: who sends them, and who listens for them."""

from __future__ import annotations

from eventmicro.broker import Receive
from eventmicro_rabbitmq.calls.declaring import CallDeclarer
from eventmicro_rabbitmq.calls.groups import GroupSubscription
from eventmicro_rabbitmq.calls.own import OwnQueue, OwnSubscription
from eventmicro_rabbitmq.calls.sending import Sender
from eventmicro_rabbitmq.connection.link import Link
from eventmicro_rabbitmq.settings import RabbitSettings

CallSubscription = GroupSubscription | OwnSubscription


class Calls:
    """Lives from `connect` to `close`; what it needs of RabbitMQ it asks for when it is first needed."""

    def __init__(self, publishing: Link, consuming: Link, settings: RabbitSettings, url: str) -> None:
        self._publishing = publishing
        self._consuming = consuming
        self._declarer = CallDeclarer(settings)
        self._own = OwnQueue(consuming, self._declarer)
        self.sender = Sender(publishing, CallDeclarer(settings), self._own, settings, url)

    def subscription(self, subject: str, receive: Receive, queue: str | None) -> CallSubscription:
        """One that listens, with those of its queue or alone, when it is opened."""
        if queue is None:
            return OwnSubscription(subject, receive, self._own)
        return GroupSubscription(subject, receive, self._consuming, self._declarer)

    async def get_ready(self, subscription: CallSubscription) -> None:
        """Try the rights that it is of no use without, and be ready for direct replies.

        Raises:
            UsageError: one is missing.
            Disconnected, TimeoutError, DriverError: it cannot be told.
        """
        if isinstance(subscription, GroupSubscription):
            await self.sender.may_answer()
        elif subscription.is_inbox:
            await self.sender.open(await self._publishing.wait())
            await self.sender.may_call()

    async def flush(self) -> None:
        """Return when RabbitMQ has taken in what was sent."""
        await self.sender.flush()

    async def close(self) -> None:
        """End what sends and listens."""
        try:
            await self.sender.close()
        finally:
            await self._own.close()
