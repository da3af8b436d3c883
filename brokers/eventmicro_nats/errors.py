"""What nats-py raises, in eventmicro's words."""

from __future__ import annotations

import re
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

# What a server says when it refuses a client or ends its connection, in small letters, and what mends it.
_MENDS = {
    "maximum connections exceeded": "raise max_connections of the server, or connect fewer clients",
    "maximum account active connections exceeded": "raise max_connections of the account, or connect fewer clients",
    "maximum control line exceeded": "a subject is longer than the server takes: shorten it, or raise max_control_line",
    "maximum payload violation": "a message has more bytes than the server takes by now: raise its max_payload",
    "authentication expired": "the credentials of this user or its account have expired: renew them",
    "authentication revoked": "the credentials of this user or its account are revoked: issue others",
    "authentication timeout": "the server had to wait too long for a login: raise its authorization timeout",
    "authorization violation": "the user is unknown or the password wrong, or it was changed while the server runs",
    "authorization failed": "the user is unknown or the password wrong, or it was changed while the server runs",
}

_match_permission = re.compile(r'.*?permissions violation for (publish|subscription) to "(.*?)"').match
_quoted_or_not = re.compile(r'"[^"]*"|[^"]+')


def translate(error: Exception, about: str) -> Exception:
    """The eventmicro error for one of nats-py; `about` names what was being done."""
    for theirs, ours, text in _TABLE:
        if isinstance(error, theirs):
            return ours(f"{about}: {text}")
    return TransportError(f"{about}: {plain(error)}")


def plain(error: BaseException) -> str:
    """What an error of the driver or the system says, in a line; its type where it says nothing."""
    return (str(error).removeprefix("nats: ").strip("'") or type(error).__name__).splitlines()[0]


def small(text: str) -> str:
    """What a server says, in the small letters that nats-py looks for; names in quotes stay as they can be granted."""
    return _quoted_or_not.sub(lambda part: part[0] if part[0].startswith('"') else part[0].lower(), text)


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


def in_words(error: str, inboxes: str = "_INBOX") -> str:
    """What the server has said, with what mends it where that is known; `inboxes` is what ours begin with."""
    small = error.lower()
    if (refused := _match_permission(error)) is not None:
        return f"{error}: {_grant(refused[1], refused[2], inboxes)}"
    return next((f"{error}: {mend}" for said, mend in _MENDS.items() if said in small), error)


def _grant(what: str, subject: str, inboxes: str) -> str:
    """What permission is wanted where something to this subject is refused."""
    if what == "publish":
        wide = ".".join([*subject.split(".")[:4], ">"]) if subject.startswith("$JS.ACK.") else subject
        return f'allow this user to publish to "{wide}"'
    if subject.startswith(f"{inboxes}."):
        return f'allow this user to subscribe to "{inboxes}.>", or set inbox_prefix to what it may subscribe to'
    return f'allow this user to subscribe to "{subject}"'
