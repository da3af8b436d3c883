"""What aiormq raises, in eventmicro's words."""

from __future__ import annotations

import ssl

from aiormq import exceptions

from eventmicro.errors import Disconnected, MessageTooLarge, NotStored, TransportError, UsageError
from eventmicro_rabbitmq.rights import not_allowed

# What may end a channel or a connection while something is asked of it.
DriverError = (exceptions.AMQPError, exceptions.ChannelInvalidStateError, OSError, RuntimeError)


def translate(error: BaseException, about: str) -> Exception:
    """The eventmicro error for one of aiormq; `about` names what was being done."""
    if isinstance(error, TransportError | UsageError):
        return error
    text = plain(error)
    if isinstance(error, exceptions.ChannelAccessRefused):  # what is made and bound says it in its own words
        return not_allowed(text, f"{about}: RabbitMQ refuses: {text}", queue=("read",), exchange=("write",))
    if isinstance(error, exceptions.ChannelPreconditionFailed):
        return UsageError(f"{about}: RabbitMQ refuses: {text}{mend_of_limit(text)}")
    if isinstance(error, exceptions.ChannelNotFoundEntity):
        return UsageError(f"{about}: {text}; make it first, or connect with declare=true")
    if isinstance(error, exceptions.ChannelLockedResource):
        return UsageError(f"{about}: another connection has it for itself: {text}")
    return Disconnected(f"{about}: {text}")


def mend_of_limit(text: str) -> str:
    """What mends that there are as many queues as there may be, where this is what RabbitMQ says."""
    if "queue limit in vhost" not in text:
        return ""
    return (
        ": a subscriber takes a queue, one for its dead letters and one for each delay of its retries: let there be "
        "more, by rabbitmqctl set_vhost_limits, or remove some"
    )


def check_permitted(about: str, why: str) -> None:
    """Refuse what RabbitMQ ends the whole connection for each time: what is deprecated, or over a limit of the user.

    Raises:
        UsageError: that is why it ended.
    """
    if "number of channels opened" in why:
        raise UsageError(
            f"{about}{why}; each subscription takes a channel, and a few are for questions: let him have more, by "
            "rabbitmqctl set_user_limits NAME '{\"max-channels\": 100}'"
        )
    if "transient_nonexcl_queues" in why:
        raise UsageError(
            f"{about}: RabbitMQ permits no queue of several connections any more that lasts no restart "
            f"(deprecated_features.permit.transient_nonexcl_queues): write durable=True, or exclusive=True"
        )


def why_not_stored(error: BaseException, about: str, *, alone: bool) -> Exception | None:
    """The error of a publish whose channel RabbitMQ has closed; None where it may have been stored.

    Args:
        alone: whether nothing else was on its way, so that it must be what RabbitMQ refuses.
    """
    text = plain(error)
    if alone and "message size" in text:
        return MessageTooLarge(f"{about}: {text}")
    of_the_exchange = "access to exchange" in text or "no exchange" in text
    if isinstance(error, exceptions.AMQPChannelError) and (alone or of_the_exchange):
        return NotStored(f"{about}: RabbitMQ refuses it: {text}")
    return None


def plain(error: BaseException) -> str:
    """What an error of the driver or the system says, in a line; its type where it says nothing."""
    if isinstance(error, exceptions.ConnectionClosed) and len(error.args) > 1:
        return str(error.args[1])
    return (str(error) or type(error).__name__).splitlines()[0]


def is_final(error: BaseException) -> bool:
    """Whether trying again to connect is of no use: credentials, certificates or the virtual host are wrong."""
    wrong = exceptions.AuthenticationError | exceptions.ProbableAuthenticationError | exceptions.ConnectionNotAllowed
    return isinstance(error, ssl.SSLError | wrong)
