"""Exchanges: made, checked or left alone, each step on a channel of its own, which a failure ends."""

from __future__ import annotations

import logging
import re

from aiormq.exceptions import (
    ChannelAccessRefused,
    ChannelNotFoundEntity,
    ChannelPreconditionFailed,
)

from eventmicro.errors import Missing, UsageError
from eventmicro_rabbitmq.connection.channel import Asking, Channel
from eventmicro_rabbitmq.errors import DriverError, mend_of_limit, plain
from eventmicro_rabbitmq.existing import INEQUIVALENT
from eventmicro_rabbitmq.places import RabbitExchange
from eventmicro_rabbitmq.rights import RIGHTS, not_allowed
from eventmicro_rabbitmq.topology import ALTERNATE, Arguments

log = logging.getLogger(__name__)

# How something of a kind is removed; rabbitmqctl has no command for exchanges.
REMOVE = {
    "queue": " when nothing is left in it: rabbitmqctl delete_queue {}, with -p VHOST where that is not /",
    "exchange": ": rabbitmqadmin delete exchange name={}, or on the page of exchanges of RabbitMQ's management",
}

# With this none is made that is not there: a name is no number. Where one is there it alone is different.
UNMAKEABLE: Arguments = {ALTERNATE: 0}


async def make_exchange(ask: Asking, exchange: RabbitExchange) -> None:
    """Make it where it is missing; one that is there is used as it is, if events can come from it as they should.

    Raises:
        UsageError: they cannot, or it may not be made from here.
    """
    about = f"exchange {exchange.name!r}"
    async with ask(about) as channel:
        try:
            await declare_exchange(channel, exchange)
        except ChannelPreconditionFailed as error:
            _check_difference(exchange, about, error)
        except ChannelAccessRefused as error:
            raise refused(about, error) from error
        except DriverError as error:
            _check_type(exchange, channel, error)
            raise


async def declare_exchange(channel: Channel, exchange: RabbitExchange) -> None:
    """Make it where it is missing; where it is made otherwise that ends the channel."""
    await channel.exchange_declare(
        exchange.name,
        exchange_type=exchange.kind,
        durable=exchange.durable,
        auto_delete=exchange.auto_delete,
        arguments=exchange.all_arguments,
    )


async def check_exchange(ask: Asking, exchange: RabbitExchange) -> None:
    """Refuse one that is missing, or of another type; what it is, is told to who may configure it.

    Raises:
        UsageError: it is.
    """
    about = f"exchange {exchange.name!r}"
    if not await stands(ask, exchange):
        raise Missing(
            f"{about} is missing and declare=check: make it, of type {exchange.kind} and durable, or let it be made by "
            "`eventmicro declare`, or set declare=true",
            [f"exchange {exchange.name}"],
        )
    async with ask(about) as channel:
        try:
            await channel.exchange_declare(
                exchange.name, exchange_type=exchange.kind, durable=exchange.durable, arguments=dict(UNMAKEABLE)
            )
        except ChannelAccessRefused as error:
            log.info("%s is not compared: %s", about, plain(error))
        except ChannelPreconditionFailed as error:
            difference = INEQUIVALENT.search(plain(error))
            if difference is None or difference[1] == "type":  # RabbitMQ tells this first
                raise refused(about, error) from error
        except DriverError as error:
            _check_type(exchange, channel, error)
            raise


async def stands(ask: Asking, exchange: RabbitExchange) -> bool:
    """Whether it is there, which everybody may ask."""
    async with ask(f"exchange {exchange.name!r}") as channel:
        try:
            await channel.exchange_declare(exchange.name, passive=True)
        except ChannelNotFoundEntity:
            return False
        return True


def refused(about: str, error: Exception) -> UsageError:
    """In whose power it is to mend it, and how."""
    text = plain(error)
    difference = INEQUIVALENT.search(text)
    if difference is not None:
        argument, kind, name, asked, found = difference.groups()
        as_it_is = f"queue=RabbitQueue({name!r})" if kind == "queue" else _as(difference)
        how = REMOVE.get(kind, "").format(name)
        return UsageError(
            f"{kind} {name!r} exists and is made otherwise: {argument} is {found}, asked for is {asked}; "
            f"use it as it is, {as_it_is}, or another name; or, if it is yours, remove it{how}"
        )
    if isinstance(error, ChannelAccessRefused):
        said = (
            f"{about} may not be made from here: {text}; grant the right to {_right(about, text)}, or make it "
            "elsewhere and set declare=false"
        )
        return not_allowed(text, said, **_rights(about, text))
    return UsageError(f"{about}: {text}{mend_of_limit(text)}")


def _as(difference: re.Match[str]) -> str:
    """How an exchange is described as it is."""
    argument, _, name, _, found = difference.groups()
    return f"RabbitExchange({name!r}, type={found})" if argument == "type" else f"RabbitExchange({name!r})"


def _right(about: str, text: str) -> str:
    """Which right is missing, in words."""
    rights = _rights(about, text)["exchange" if "access to exchange" in text else "queue"]
    if rights == ("read",):
        return "read from that exchange"
    if rights == ("write",):
        return "write to that queue" if "access to queue" in text else "write to that exchange"
    return "configure it" if rights == ("configure",) else "configure, write to and read from such queues"


def _rights(about: str, text: str) -> dict[str, tuple[str, ...]]:
    """Which right to an exchange, or a queue, it may be: who binds reads from the exchange, and writes to the queue;
    who makes a queue writes to the exchange of its dead letters. That of a live subscription is made and bound at once.
    """
    if about.startswith("binding"):
        return {"exchange": ("read",), "queue": ("write",)}
    if about.startswith("exchange"):
        own = f"exchange {about.split(chr(39))[1]!r}" in text
        return {"exchange": ("configure",) if own else ("write",)}
    if about.startswith("queue"):
        return {"exchange": ("write",), "queue": ("configure",)}
    return {"exchange": ("read",), "queue": RIGHTS}


def _check_difference(exchange: RabbitExchange, about: str, error: Exception) -> None:
    """Refuse one that is there and is no exchange for these events."""
    difference = INEQUIVALENT.search(plain(error))
    if difference is None:
        _check_type(exchange, None, error)
    if difference is None or not is_used(error) or exchange.alternate is not None:
        raise refused(about, error) from error
    log.info("%s is used as it is: its %s is %s", about, difference[1], difference[5])


def is_used(error: Exception) -> bool:
    """Whether an exchange that is made otherwise will do: if it only lives shorter, or passes on what nobody takes."""
    difference = INEQUIVALENT.search(plain(error))
    return difference is not None and difference[1] not in ("type", "internal")


def _check_type(exchange: RabbitExchange, channel: Channel | None, error: Exception) -> None:
    """Say that it is the type, where it is; for that RabbitMQ 4 ends the channel, and 3 the whole connection."""
    lost = channel is not None and channel.link.lost.done()
    if "exchange type" in (channel.link.lost.result() if channel is not None and lost else plain(error)):
        raise UsageError(
            f"exchange {exchange.name!r}: RabbitMQ knows no type {exchange.kind!r}: enable the plug-in that has it, by "
            f"rabbitmq-plugins, or write another type"
        ) from error
