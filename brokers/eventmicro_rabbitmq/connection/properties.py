"""The properties of an event, of which most have few of all that there may be: read in place, and written."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

from pamqp import decode, encode

from eventmicro_rabbitmq.connection.frames import Properties
from eventmicro_rabbitmq.connection.table import join_entries, read_entries, write_entry, write_table

# How many sets of properties are remembered; as a rule each publisher has one.
REMEMBERED = 256

Decode = Callable[[bytes], tuple[int, Any]]
# A property's name, and what reads it: None for text, as most are.
Plan = tuple[tuple[str, Decode | None], ...]

_plans: dict[int, Plan] = {}
_forms: dict[bytes, tuple[str, str]] = {}  # content type and encoding, by both as they are written


class Sparse(Properties):
    """Properties of which only those that are there were set; asked for others it says their defaults.

    It names no slots of its own: `__slots__` are the names of all properties, as in pamqp's.
    """

    def __getattr__(self, name: str) -> Any:
        if name in Properties.flags:
            return "" if name == "cluster_id" else None
        raise AttributeError(name)


class Received(Sparse):
    """Those of an event that has come.

    table, moment: the headers and the time as they came, in bytes; None where there are none. The time is read when it
    is asked for.
    """

    table: bytes | None = None
    moment: bytes | None = None

    def __init__(self) -> None:  # which are asked for each time
        nothing: Any = None
        self.content_type = self.content_encoding = self.headers = self.correlation_id = self.message_id = nothing

    def __getattr__(self, name: str) -> Any:
        if name == "timestamp" and self.moment is not None:
            return decode.timestamp(self.moment)[1]
        return super().__getattr__(name)


class Persistent(Sparse):
    """Those of an event that is published: it is kept, and has an id.

    Args:
        since: when it is published, in seconds since 1970; None: that is not said.
    """

    def __init__(
        self,
        message_id: str,
        content_type: str | None = None,
        headers: dict[str, Any] | None = None,
        content_encoding: str | None = None,
        correlation_id: str | None = None,
        since: int | None = None,
    ) -> None:
        self.message_id = message_id
        self.content_type = content_type
        self.headers = headers
        self.content_encoding = content_encoding
        self.correlation_id = correlation_id
        self.delivery_mode = 2
        self._since = since

    @property
    def moment(self) -> datetime | None:
        """When it is published."""
        return None if self._since is None else datetime.fromtimestamp(self._since, UTC)

    def marshal(self) -> bytes:
        flags, form = _form(self.content_type, self.content_encoding)
        flags |= _MODE_AND_ID
        table = correlation = moment = b""
        if self.headers is not None:
            flags |= _HEADERS
            table = encode.field_table(self.headers)
        if self.correlation_id:
            flags |= _CORRELATION_ID
            correlation = _text(self.correlation_id)
        if self._since is not None:
            flags |= _TIMESTAMP
            moment = self._since.to_bytes(8, "big")
        name = _text(self.message_id or "")
        return b"".join((flags.to_bytes(2, "big"), form, table, b"\x02", correlation, name, moment))


class Rewritten(Sparse):
    """Those that are written one by one, after those of another event or message."""

    def take(self, theirs: Properties, apart: Iterable[str]) -> None:
        """Have what another has, but for these."""
        for name in Properties.flags.keys() - {*apart}:
            if (value := getattr(theirs, name)) not in (None, ""):
                setattr(self, name, value)

    def marshal(self) -> bytes:
        flags, parts = 0, list[bytes]()
        for name, flag in Properties.flags.items():
            if (value := getattr(self, name)) not in (None, ""):
                flags |= flag
                parts.append(self.write(name, value))
        return b"".join((flags.to_bytes(2, "big"), *parts))

    def write(self, name: str, value: Any) -> bytes:
        """One property as it is written."""
        written: bytes = self.encode_property(name, value)
        return written


class Limited(Rewritten):
    """Those of an event that expires, comes before others, or says more than most.

    Args:
        plain: the same without that.
        expiration: for how long a queue keeps it, in milliseconds.
        said: further ones, by their names.
    """

    def __init__(
        self,
        plain: Persistent | Limited,
        expiration: int | None = None,
        priority: int | None = None,
        said: Mapping[str, str] | None = None,
    ) -> None:
        self.take(plain, ("expiration", "priority"))
        if isinstance(plain, Persistent):
            self.timestamp = plain.moment
        self.expiration = None if expiration is None else str(expiration)
        self.priority = priority
        for name, value in (said or {}).items():
            setattr(self, name, value)


class Copied(Rewritten):
    """Those of a copy of an event: what it was, in the very bytes where these are at hand.

    Args:
        theirs: those of the event.
        apart: the properties that the copy does not have.
        keeps: which of its headers the copy has.
        added: what else the copy says by headers, in the place of those of these names.
    """

    def __init__(
        self, theirs: Properties, apart: Iterable[str], keeps: Callable[[str], bool], added: dict[str, Any]
    ) -> None:
        self.take(theirs, ("headers", *apart))
        self.delivery_mode = 2
        raw: dict[str, Any] = theirs.headers or {}
        self._kept = {name for name in raw if keeps(name)} - added.keys()
        self._table: bytes | None = getattr(theirs, "table", None)
        self._moment: bytes | None = getattr(theirs, "moment", None)
        self._added = added
        self.headers = {name: value for name, value in raw.items() if name in self._kept} | added or None

    def write(self, name: str, value: Any) -> bytes:
        if name == "headers":
            return self._write_headers()
        if name == "timestamp" and self._moment is not None:
            return self._moment
        return super().write(name, value)

    def _write_headers(self) -> bytes:
        try:
            entries = read_entries(self._table) if self._table is not None else None
        except Exception:  # of a type that nobody knows: what could be read of them goes on
            entries = None
        if entries is None:
            return write_table(self.headers or {})
        added = (write_entry(name, value) for name, value in self._added.items())
        return join_entries([*(entry for name, entry in entries if name in self._kept), *added])


_HEADERS, _CORRELATION_ID, _TIMESTAMP = (Properties.flags[name] for name in ("headers", "correlation_id", "timestamp"))
_MODE_AND_ID = Properties.flags["delivery_mode"] | Properties.flags["message_id"]


@lru_cache(maxsize=REMEMBERED)
def _form(content_type: str | None, content_encoding: str | None) -> tuple[int, bytes]:
    """What a message is written in, as all of a route say it: which properties these are, and they."""
    flags, written = 0, b""
    for name, value in (("content_type", content_type), ("content_encoding", content_encoding)):
        if value:
            flags |= Properties.flags[name]
            written += _text(value)
    return flags, written


def describe(
    content_type: str | None,
    content_encoding: str | None,
    headers: dict[str, str] | None,
    *,
    correlation_id: str = "",
    reply_to: str = "",
    expiration: str = "",
    message_id: str = "",
) -> bytes:
    """The properties of a request or a reply, which nobody keeps."""
    flags, form = _form(content_type, content_encoding)
    parts = [form]
    if headers:
        flags |= _HEADERS
        parts.append(write_table(headers))
    for flag, value in zip(_OF_A_CALL, (correlation_id, reply_to, expiration, message_id), strict=True):
        if value:
            flags |= flag
            parts.append(_text(value))
    return b"".join((flags.to_bytes(2, "big"), *parts))


_OF_A_CALL = tuple(Properties.flags[name] for name in ("correlation_id", "reply_to", "expiration", "message_id"))


def _text(value: str) -> bytes:
    encoded = value.encode()
    return bytes((len(encoded),)) + encoded


# What an event of ours says that has no headers.
_PLAIN = _MODE_AND_ID | _TIMESTAMP | Properties.flags["content_type"] | Properties.flags["content_encoding"]
# With what a time begins that is surely in a calendar.
_SOON = bytes(3)


def read_properties(data: bytes, position: int, end: int, flags: int) -> Received | None:
    """The properties between two positions; None where they are not just that, or cannot be read.

    Args:
        flags: says which there are.
    """
    if flags == _PLAIN:
        return _read_plain(data, position, end)
    plan = _plans.get(flags)
    if plan is None:
        plan = _remember(flags)
    found = Received()
    try:
        for name, decode_value in plan:
            if decode_value is None:
                start = position + 1
                position = start + data[position]
                setattr(found, name, data[start:position].decode())
            elif decode_value is decode.octet:
                setattr(found, name, data[position])
                position += 1
            elif decode_value is decode.timestamp:
                moment = found.moment = data[position : position + 8]
                if not moment.startswith(_SOON):
                    decode_value(moment)
                position += 8
            else:
                size, value = decode_value(data[position:end])
                setattr(found, name, value)
                found.table = data[position : position + size]
                position += size
    except Exception:  # pamqp raises many kinds
        return None
    return found if position == end and not flags & _MORE_FLAGS else None


def _read_plain(data: bytes, position: int, end: int) -> Received | None:
    """The same for what most events have, in half the time."""
    encoding_at, moment_at = position + 1 + data[position], end - 8
    if encoding_at >= moment_at or (mode_at := encoding_at + 1 + data[encoding_at]) >= moment_at:
        return None
    if mode_at + 2 + data[mode_at + 1] != moment_at:
        return None
    found = Received()
    try:
        form = data[position:mode_at]
        found.content_type, found.content_encoding = _forms.get(form) or _remember_form(form)
        found.delivery_mode = data[mode_at]
        found.message_id = data[mode_at + 2 : moment_at].decode()
        moment = found.moment = data[moment_at:end]
        if not moment.startswith(_SOON):
            decode.timestamp(moment)
    except Exception:  # whatever is odd in it is read the other way
        return None
    return found


def _remember_form(form: bytes) -> tuple[str, str]:
    if len(_forms) >= REMEMBERED:
        _forms.clear()
    first = 1 + form[0]
    read = _forms[form] = form[1:first].decode(), form[first + 1 :].decode()
    return read


# A bit of the flags that says that there are further ones, for properties that nobody has named yet.
_MORE_FLAGS = 1


def _remember(flags: int) -> Plan:
    if len(_plans) >= REMEMBERED:
        _plans.clear()
    kinds = ((name, Properties.amqp_type(name)) for name, flag in Properties.flags.items() if flags & flag)
    plan = tuple((name, None if kind == "shortstr" else decode.METHODS[kind]) for name, kind in kinds)
    _plans[flags] = plan
    return plan
