"""Queues: made, or compared with how they should be, each step on a channel of its own, which a failure ends."""

from __future__ import annotations

import logging

from aiormq.exceptions import (
    ChannelAccessRefused,
    ChannelLockedResource,
    ChannelNotFoundEntity,
    ChannelPreconditionFailed,
)

from eventmicro.broker import QueueState
from eventmicro.errors import Missing, UsageError
from eventmicro_rabbitmq.connection.channel import Asking
from eventmicro_rabbitmq.errors import plain
from eventmicro_rabbitmq.exchanges import refused
from eventmicro_rabbitmq.existing import INEQUIVALENT, UNMAKEABLE
from eventmicro_rabbitmq.places import RabbitQueue
from eventmicro_rabbitmq.topology import Arguments

log = logging.getLogger(__name__)


async def declare_queue(ask: Asking, name: str, arguments: Arguments, place: RabbitQueue | None = None) -> None:
    """Make it where it is missing, durable unless its place says otherwise.

    Raises:
        UsageError: it is there and made otherwise, or may not be made from here.
    """
    about = f"queue {name!r}"
    async with ask(about) as channel:
        try:
            await channel.queue_declare(
                name,
                durable=place is None or place.durable,
                exclusive=place is not None and place.exclusive,
                auto_delete=place is not None and place.auto_delete,
                arguments=dict(arguments),
            )
        except (ChannelPreconditionFailed, ChannelAccessRefused) as error:
            raise refused(about, error) from error


async def exists(ask: Asking, queue: str) -> bool:
    """Whether it is there, which everybody may ask.

    Raises:
        UsageError: it is, and another connection has it for itself.
    """
    async with ask(f"queue {queue!r}") as channel:
        try:
            await channel.queue_declare(queue, passive=True)
        except ChannelNotFoundEntity:
            return False
        except ChannelLockedResource as error:
            raise UsageError(f"queue {queue!r}: another connection has it for itself: {plain(error)}") from error
        return True


async def state_of(ask: Asking, queue: str) -> QueueState | None:
    """How many events are with nobody, and how many consumers there are, which is all that is told; None: no queue.

    Raises:
        UsageError: another connection has it for itself.
    """
    async with ask(f"queue {queue!r}") as channel:
        try:
            told = await channel.queue_declare(queue, passive=True)
        except ChannelNotFoundEntity:
            return None
        except ChannelLockedResource as error:
            raise UsageError(f"queue {queue!r}: another connection has it for itself: {plain(error)}") from error
        return QueueState(queue=queue, waiting=told.message_count or 0, consumers=told.consumer_count or 0)


async def check_queue(ask: Asking, name: str, arguments: Arguments, *, missing: bool) -> None:
    """Refuse a queue that is missing or made otherwise, and make none, also where it is gone meanwhile.

    Raises:
        UsageError: it is.
    """
    about = f"queue {name!r}"
    if not missing:
        async with ask(about) as channel:
            try:
                await channel.queue_declare(name, durable=True, arguments=arguments | UNMAKEABLE)
            except ChannelAccessRefused as error:  # it is there, and more is not told
                log.info("%s is not compared: %s", about, plain(error))
            except ChannelPreconditionFailed as error:
                difference = INEQUIVALENT.search(plain(error))
                if difference is not None and difference[1] not in UNMAKEABLE:
                    raise refused(about, error) from error
                missing = difference is None
    if missing:
        raise missing_queue(name, arguments)


def missing_queue(name: str, arguments: Arguments) -> Missing:
    """What to say of a queue that is not there and is not to be made."""
    return Missing(
        f"queue {name!r} is missing and declare=check: make it, durable, with {arguments}, or let it be made by "
        "`eventmicro declare`, or set declare=true",
        [f"queue {name}"],
    )
