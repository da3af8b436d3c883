"""Every error a user can meet, as one tree; the branch says whose move it is.

EventMicroError
├── UsageError                  yours: code or a setting is wrong, nothing was sent
│   ├── UnknownOption           an option does not exist, or one is missing
│   ├── SignatureError          a handler is declared in a way that cannot work
│   ├── AdapterNotFound         no adapter for this URL or name, or its driver is not installed
│   │   └── BrokerNotFound      … for that of a broker
│   ├── Missing                 something is not there, and not to be made from here; it says what
│   └── Unsupported             this broker cannot keep the promise that was asked for
├── CodecError                  the data's
│   ├── EncodeError             a value is not of its declared type; nothing was sent
│   └── DecodeError             a body that arrived is not of the expected type
│       └── BodyMissing         … or has not arrived: it is not in the object store any more, or is another one
├── TransportError              the broker's
│   ├── ConnectionFailed        no connection could be made
│   ├── Refused                 the server refuses subscriptions; it says which
│   ├── Disconnected            the connection is away or closed; the message was not taken
│   ├── Unconfirmed             the broker did not confirm in time; whether it has the message is not known
│   ├── NotStored               the broker refused the message, and says why
│   ├── NotAllPublished         of several messages some were not confirmed; it says which
│   └── MessageTooLarge         the body is over the broker's limit; nothing was sent
├── TooSlow                     the reader's: events came faster than they were read, and some are missed
├── Settlement                  nobody's: raised in a handler, at any depth, to say what becomes of its event
│   ├── Ack                     it is dealt with
│   ├── Nack                    not now: deliver it again
│   └── Reject                  never: give it up
└── ServiceError                the other service's: an outcome of a call, the same on both sides of the bus
    ├── BadRequest 400, Unauthorized 401, Forbidden 403, NotFound 404, CallTimeout 408, Conflict 409,
    ├── ContentTooLarge 413, UnsupportedMediaType 415, TooManyRequests 429, InternalError 500, Unavailable 503
    ├── StreamCancelled 499     a stream was given up, here or on the other side
    ├── StreamEnded 410         the other side has ended the stream, and takes no more
    ├── StreamBroken 502        frames of a stream were lost, doubled or cannot be read
    └── PeerLost 504            nothing is heard any more of the other side of a stream
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from http import HTTPStatus
from math import inf
from types import MappingProxyType
from typing import Any, Self

# How many errors one says that stands for several.
MOST_SAID = 8


class EventMicroError(Exception):
    """The root of the tree. The docstring of a class is its default message."""

    attempts: int = 1
    """How often a call was made that ended so, where its client makes calls again."""

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message if message is not None else (type(self).__doc__ or "").split("\n")[0])

    def __str__(self) -> str:
        return super().__str__() + self._describe_attempts()

    def _describe_attempts(self) -> str:
        return f" ({self.attempts} attempts)" if self.attempts > 1 else ""


class UsageError(EventMicroError):
    """The code or a setting is wrong."""

    @classmethod
    def together(cls, errors: Sequence[UsageError]) -> UsageError:
        """Several of one kind as one, which says no more than is read."""
        said = list(dict.fromkeys(map(str, errors)))
        more = f"; and {len(said) - MOST_SAID} more" if len(said) > MOST_SAID else ""
        return UsageError("; ".join(said[:MOST_SAID]) + more)


class SignatureError(UsageError):
    """A handler is declared in a way that cannot work."""


class UnknownOption(UsageError, TypeError):
    """An option does not exist, or one is missing; the message says which there are."""


class AdapterNotFound(UsageError):
    """No adapter is known for this URL or name."""


class BrokerNotFound(AdapterNotFound):
    """No adapter is known for this broker URL."""


class Missing(UsageError):
    """Something is not there, and is not to be made from here.

    what: what it is, such as `queue orders.bill`.
    """

    def __init__(self, message: str | None = None, what: Iterable[str] = ()) -> None:
        super().__init__(message)
        self.what = tuple(what)

    @classmethod
    def together(cls, errors: Sequence[UsageError]) -> UsageError:
        what = [each for error in errors if isinstance(error, Missing) for each in error.what]
        return cls(str(super().together(errors)), what)


class Unsupported(UsageError):
    """The broker cannot do what was asked for."""


class CodecError(EventMicroError):
    """A body and its type do not fit."""


class EncodeError(CodecError):
    """The value is not of its declared type."""


class DecodeError(CodecError):
    """The body is not of the expected type.

    `errors` lists what is wrong, field by field, where the codec can tell: `{"loc": [...], "msg": ..., "type": ...}`.
    """

    def __init__(self, message: str | None = None, errors: Sequence[Mapping[str, Any]] = ()) -> None:
        super().__init__(message)
        self.errors = errors


class BodyMissing(DecodeError):
    """The event's body is not to be had any more where the event says that it is."""


class TransportError(EventMicroError):
    """The broker did not take the message."""


class Refused(TransportError):
    """The server refuses subscriptions: by a permission, or as there are too many.

    subjects: those that are refused, in small letters.
    """

    def __init__(self, message: str | None = None, subjects: Iterable[str] = ()) -> None:
        super().__init__(message)
        self.subjects = frozenset(subject.lower() for subject in subjects)


class ConnectionFailed(TransportError):
    """No connection to the broker could be made."""


class Disconnected(TransportError):
    """The connection to the broker is away."""


class TooSlow(EventMicroError):
    """Events came faster than they were read: some are missed."""


class Unconfirmed(TransportError):
    """The broker did not confirm the message in time; it may have it or not."""


class NotStored(TransportError):
    """The broker refused to store the message."""


class NotAllPublished(TransportError):
    """Some of several messages were not confirmed.

    `failed` is what happened to them, by their position in the sequence; `confirmed` how many the broker has.
    """

    def __init__(
        self, message: str | None = None, *, failed: Mapping[int, Exception] | None = None, confirmed: int = 0
    ) -> None:
        self.failed = dict(failed or {})
        self.confirmed = confirmed
        super().__init__(message or self._describe())

    def _describe(self) -> str | None:
        if not self.failed:
            return None
        first = min(self.failed)
        return (
            f"{len(self.failed)} of {len(self.failed) + self.confirmed} messages were not confirmed; "
            f"the first is number {first}: {self.failed[first]}"
        )


class MessageTooLarge(TransportError):
    """The message is over the broker's limit.

    limit: how many bytes it may have; None: that is not known here.
    """

    def __init__(self, message: str | None = None, *, limit: int | None = None) -> None:
        super().__init__(message)
        self.limit = limit


class Settlement(EventMicroError):
    """Raised in a subscriber's handler to say what becomes of its event.

    Args:
        message: why, for the log and the dead letter; it is kept as `reason`, which is empty without one.
    """

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message)
        self.reason = message or ""


class Ack(Settlement):
    """The event is dealt with: stop here."""


class Nack(Settlement):
    """The event is to be delivered again.

    It counts as a failed attempt: after the last one that `retry` allows the event is given up.

    Args:
        delay: when, in seconds; default: as `retry` says.
        message: why, for the log and the dead letter.

    Raises:
        UsageError: the delay is no number of seconds, 0 or more.
    """

    def __init__(self, delay: float | None = None, message: str | None = None) -> None:
        super().__init__(message)
        if delay is not None and not _is_seconds(delay):
            raise UsageError(f"delay={delay!r}: write seconds, 0 or more; a reason is message=...")
        self.delay = delay


class Reject(Settlement):
    """The event is given up at once: it goes to the dead letters, with the message as its reason."""


class ServiceError(EventMicroError):
    """An error that crosses the bus: what a handler raises is what its caller catches.

    Args:
        detail: what happened, for the caller to read.
        id: where it happened; default: the endpoint that raised it, `service.endpoint`.
        code: a status code in HTTP's numbering; default: that of the class.
        retryable: whether a second try may succeed without harm; default: that of the class.
        errors: the parts of it, such as one entry a wrong field.
        retry_after: in how many seconds a second try may succeed; None: nothing is known of that.
    """

    code: int = 500
    retryable: bool = False
    retry_after: float | None = None
    metadata: Mapping[str, str] = MappingProxyType({})
    """The headers that came with it, where a service answered it: those of its protocol, and what its handler has set
    as `context.reply_metadata`."""
    received: bool = False
    """Whether it is the outcome of a call made here. A handler that lets it pass has failed: its caller gets 500, or
    503 where nobody answered."""

    def __init__(
        self,
        detail: str = "",
        *,
        id: str = "",
        code: int | None = None,
        retryable: bool | None = None,
        errors: Sequence[Mapping[str, Any]] = (),
        retry_after: float | None = None,
    ) -> None:
        super().__init__(detail)
        self.detail = str(detail)
        self.id = id
        self.errors = errors
        if code is not None:
            if not isinstance(code, int):
                raise UsageError(f"code={code!r}: write a number, as HTTP has them")
            self.code = code
        if retryable is not None:
            self.retryable = retryable
        if retry_after is not None:
            if not _is_seconds(retry_after):
                raise UsageError(f"retry_after={retry_after!r}: write seconds, 0 or more")
            self.retry_after = retry_after

    @property
    def is_unanswered(self) -> bool:
        """Whether the service was not there, or has not answered in time."""
        return self.code in (CallTimeout.code, Unavailable.code, PeerLost.code)

    @property
    def is_failure(self) -> bool:
        """Whether the service has failed, by 500 or more or by not answering in time; else it has answered."""
        return self.code >= 500 or isinstance(self, CallTimeout)

    def as_received(self) -> Self:
        """The same, as the outcome of a call that was made here."""
        self.received = True
        return self

    def __str__(self) -> str:
        where = f"{self.id}: " if self.id else ""
        fields = describe_fields(self.errors)
        detail = f": {self.detail}" if self.detail or fields else ""
        return f"{where}{self.code} {self.status}{detail}{fields}{self._describe_attempts()}"

    @property
    def status(self) -> str:
        """The words for the code, such as "Not Found"; empty for a code that HTTP does not know."""
        try:
            return HTTPStatus(self.code).phrase
        except ValueError:
            return ""

    def to_json(self, id: str = "") -> bytes:
        """The form in which the error travels, as the body of an error reply; `id` where it has none of its own.

        Raises:
            TypeError, ValueError, RecursionError: one of its parts is nothing that JSON can hold.
        """
        form: dict[str, Any] = {
            "id": self.id or id,
            "code": self.code,
            "detail": self.detail,
            "status": self.status,
            "retryable": self.retryable,
        }
        if self.errors:
            form["errors"] = list(self.errors)
        if self.retry_after is not None:
            form["retry_after"] = self.retry_after
        return json.dumps(form, default=str, allow_nan=False).encode()

    @staticmethod
    def from_json(body: bytes, *, code: int, detail: str, id: str) -> ServiceError:
        """Read an error reply; `code`, `detail` and `id` stand in where the body of a foreign service says nothing."""
        try:
            form = json.loads(body)
        except (ValueError, RecursionError):
            form = None
        return ServiceError.from_form(form, code=code, detail=detail, id=id)

    @staticmethod
    def from_form(form: Any, *, code: int, detail: str, id: str) -> ServiceError:
        """The same of a body that is decoded, into a dict if it says anything."""
        if not isinstance(form, dict):
            form = {}
        errors, after = form.get("errors"), form.get("retry_after")
        kind = _BY_CODE.get(code, ServiceError)
        return kind(
            str(form.get("detail") or detail),
            id=str(form.get("id") or id),
            code=code,
            retryable=bool(form.get("retryable", kind.retryable)),
            errors=[e for e in errors if isinstance(e, dict)] if isinstance(errors, list) else (),
            retry_after=after if _is_seconds(after) else None,
        )


def unwrapped(error: BaseException) -> BaseException:
    """What was raised, out of the groups that task groups put around it."""
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error


def describe_fields(errors: Sequence[Mapping[str, Any]]) -> str:
    """The wrong fields of a message in words, ` (sku: Field required)`; empty where there are none."""
    fields = "; ".join(f"{_path(e.get('loc'))}: {e.get('msg', '')}" for e in errors)
    return f" ({fields})" if fields else ""


def _is_seconds(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < inf


def _path(loc: object) -> str:
    """Where in a message something is wrong; a foreign service may say it in any form."""
    return (".".join(map(str, loc)) if isinstance(loc, list | tuple) else str(loc or "")) or "the body"


class BadRequest(ServiceError):
    """The request is not what the endpoint takes."""

    code = 400


class Unauthorized(ServiceError):
    """The caller is not known."""

    code = 401


class Forbidden(ServiceError):
    """The caller may not do this."""

    code = 403


class NotFound(ServiceError):
    """There is no such thing."""

    code = 404


class CallTimeout(ServiceError, TimeoutError):
    """The time for the call is used up; the handler may or may not have run.

    `elapsed` is how long the caller waited, in seconds.
    """

    code = 408
    elapsed: float = 0.0


class Conflict(ServiceError):
    """The request does not fit the present state."""

    code = 409


class ContentTooLarge(ServiceError):
    """The body is larger than the endpoint takes."""

    code = 413


class UnsupportedMediaType(ServiceError):
    """The endpoint has no codec for this content type."""

    code = 415


class TooManyRequests(ServiceError):
    """The service is asked for more than it does."""

    code = 429
    retryable = True


class InternalError(ServiceError):
    """The handler failed; its service's log says how."""

    code = 500


class Unavailable(ServiceError):
    """Nobody serves the call; the handler did not run. Of a stream that had begun: its service has stopped.

    `nobody` says that it is the broker that answered so: there was no one to take the request.
    """

    code = 503
    retryable = True
    nobody = False


class StreamCancelled(ServiceError):
    """The stream was given up, here or on the other side."""

    code = 499


class StreamEnded(ServiceError):
    """The other side has ended the stream: it takes no more, or has not sent what was awaited."""

    code = 410


class StreamBroken(ServiceError):
    """Frames of the stream were lost, doubled or cannot be read, so that it cannot go on."""

    code = 502


class PeerLost(ServiceError, ConnectionError):
    """Nothing is heard any more of the other side of the stream; what it has done by now is not known."""

    code = 504


_BY_CODE: dict[int, type[ServiceError]] = {
    kind.code: kind
    for kind in (
        BadRequest,
        Unauthorized,
        Forbidden,
        NotFound,
        CallTimeout,
        Conflict,
        ContentTooLarge,
        UnsupportedMediaType,
        TooManyRequests,
        InternalError,
        Unavailable,
    )
}
