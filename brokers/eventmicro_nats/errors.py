"""What nats-py raises, in eventmicro's words."""

from __future__ import annotations

import ssl

from nats import errors

from eventmicro.errors import Disconnected, TransportError, UsageError

_TABLE: tuple[tuple[type[Exception], type[Exception], str], ...] = (
    (errors.ConnectionClosedError, Disconnected, "the connection is closed"),
    (errors.ConnectionDrainingError, Disconnected, "the connection is closing"),
    (errors.ConnectionReconnectingError, Disconnected, "the connection is being re-made"),
    (errors.FlushTimeoutError, Disconnected, "the server did not answer in time"),
    (errors.TimeoutError, Disconnected, "the server did not answer in time"),
    (errors.BadSubjectError, UsageError, "NATS does not take this subject"),
)


def translate(error: Exception, about: str) -> Exception:
    """The eventmicro error for one of nats-py; `about` names what was being done."""
    for theirs, ours, text in _TABLE:
        if isinstance(error, theirs):
            return ours(f"{about}: {text}")
    return TransportError(f"{about}: {plain(error)}")


def plain(error: BaseException) -> str:
    """What an error of the driver or the system says, in a line; its type where it says nothing."""
    return (str(error).removeprefix("nats: ").strip("'") or type(error).__name__).splitlines()[0]


def is_about_keys(error: Exception) -> bool:
    """Whether it is neither the server's nor the connection's: the file with keys is missing, or has none in it."""
    return isinstance(error, FileNotFoundError | PermissionError) or not isinstance(error, OSError | errors.Error)


def is_final(error: Exception) -> bool:
    """Whether trying again to connect is of no use: credentials or certificates are wrong."""
    if isinstance(error, ssl.SSLError):
        return not isinstance(error, ssl.SSLEOFError | ssl.SSLZeroReturnError)  # a server that went away meanwhile
    if is_about_keys(error) or isinstance(error, errors.AuthorizationError | errors.SecureConnWantedError):
        return True
    text = str(error).lower()
    return "authorization violation" in text or ("authentication" in text and "timeout" not in text)
