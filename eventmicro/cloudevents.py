"""CloudEvents 1.0 on the wire: an event's attributes in headers, or around its data in JSON.

https://github.com/cloudevents/spec. In binary mode the attributes are headers and the body is the data; each protocol's
binding has a prefix of its own for them. In structured mode the body is one JSON object. Of attributes that others have
written all prefixes are read.
"""

from __future__ import annotations

import json
import re
from base64 import b64encode
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal
from urllib.parse import quote, unquote

from eventmicro.checks import names_words
from eventmicro.errors import UsageError

STRUCTURED = "application/cloudevents+json"
BATCH = "application/cloudevents-batch+json"
# Where one of its own formats begins, of which JSON is read.
FORMATS = "application/cloudevents"
VERSION = "1.0"
# The attribute by which events belong together, as a broker's key does.
PARTITION_KEY = "partitionkey"

Mode = Literal["binary", "structured"]
Scalar = str | int | bool
Of = Callable[[Any], Any]
"""Takes something out of an event."""

_NAME = re.compile(r"[a-z0-9]+")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
# The attributes that are fields of their own here, and what else an extension cannot be named.
_CORE = ("id", "source", "type", "specversion", "subject", "time", "datacontenttype", "dataschema")
_OWN = frozenset(_CORE)
_TAKEN = frozenset((*_CORE, "data", "data_base64"))
# What needs no percent sign in a header's value: printable ASCII but for the blank, the quote and the percent sign.
_SAFE = "".join(chr(sign) for sign in range(0x21, 0x7F) if chr(sign) not in '"%')


@dataclass(frozen=True, slots=True)
class Binding:
    """How a protocol carries the attributes of an event in headers."""

    prefix: str = "ce-"
    """What stands before their names."""
    percent: bool = True
    """Whether what is not printable ASCII is percent-encoded, as in HTTP and NATS; elsewhere headers hold any text."""

    def write(self, attributes: Mapping[str, Scalar]) -> dict[str, str]:
        """Attributes as headers."""
        texts = {name: as_text(value) for name, value in attributes.items()}
        return {f"{self.prefix}{name}": self._encode(text) for name, text in texts.items()}

    def _encode(self, text: str) -> str:
        return quote(text, safe=_SAFE) if self.percent else text


PLAIN = Binding()
# Of those whose headers hold any text: RabbitMQ as its clients have it, and Kafka.
TEXT = Binding(percent=False)
UNDERSCORED = Binding("ce_", percent=False)
# Their prefixes in lower case: NATS, HTTP and RabbitMQ; Kafka; AMQP 1.0, in both of its forms.
PREFIXES = ("ce-", "ce_", "cloudevents:", "cloudevents_")


def read_headers(headers: Mapping[str, str] | None, *, percent: bool) -> dict[str, str]:
    """The attributes that headers say, whatever the prefix; empty where they are of no CloudEvent.

    Args:
        percent: whether those of the prefix `ce-` are percent-encoded here.
    """
    attributes: dict[str, str] = {}
    for name, value in (headers or {}).items():
        low = name.lower()
        for prefix in PREFIXES:
            if low.startswith(prefix):
                attributes[low[len(prefix) :]] = unquote(value) if percent and prefix == "ce-" else value
                break
    return attributes


def is_attribute(name: str) -> bool:
    """Whether a header is an attribute that each event has of its own, and that goes on with no other event."""
    low = name.lower()
    return any(low.startswith(prefix) and low[len(prefix) :] in _OWN for prefix in PREFIXES)


def write_structured(attributes: Mapping[str, Scalar], data: str) -> bytes:
    """An event as one JSON object.

    Args:
        data: its data as the last member, empty where it has none; see `data_member`.
    """
    said = json.dumps(dict(attributes), ensure_ascii=False, separators=(",", ":"))
    return (f"{said[:-1]},{data}}}" if data else said).encode()


def data_member(body: bytes, *, is_json: bool, is_text: bool) -> str:
    """An event's data as the member of a JSON object; empty where there is none."""
    if not body:
        return ""
    if is_json:
        return f'"data":{body.decode()}'
    if is_text:
        return f'"data":{json.dumps(body.decode(), ensure_ascii=False)}'
    return f'"data_base64":"{b64encode(body).decode()}"'


def as_text(value: Scalar) -> str:
    """An attribute's value in the specification's text form."""
    return value if isinstance(value, str) else json.dumps(value)


def write_time(moment: datetime) -> str:
    """A moment after RFC 3339, in UTC."""
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


def read_time(said: object) -> datetime | None:
    """The moment of an attribute: after RFC 3339, or in milliseconds as AMQP has it; None: it is neither."""
    try:
        if isinstance(said, int) or (isinstance(said, str) and said.isdecimal()):
            return datetime.fromtimestamp(int(said) / 1000, UTC)
        moment = datetime.fromisoformat(str(said).upper())
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment
    except (ValueError, OverflowError, OSError):
        return None


@names_words
@dataclass(frozen=True, slots=True, kw_only=True)
class CloudEvents:
    """How the events of a topic are CloudEvents. What is a function is called with each event.

    Raises:
        UsageError: there is no such mode, or an attribute cannot be written.
    """

    mode: Mode = "binary"
    """`binary`: the attributes are headers, and the body is what it is without them, which everybody reads.
    `structured`: the body is one JSON object with all of it."""
    source: str | Of | None = None
    """Where events happen, a URI or a part of one; default: `/<service>`, and `/client` of a client."""
    type: str | Of | None = None
    """What they are, such as `com.example.order.placed`; default: the topic's subject."""
    subject: str | Of | None = None
    """What they are about; default: it is not said."""
    time: Of | None = None
    """When it happened, a datetime; default: when it is published."""
    dataschema: str | None = None
    """The URI of the data's schema."""
    extensions: Mapping[str, Scalar] | Of = field(default_factory=dict)
    """Further attributes; names are of lower-case letters and digits. A `partitionkey` is the event's key."""

    def __post_init__(self) -> None:
        if self.mode not in ("binary", "structured"):
            raise UsageError(f"CloudEvents(mode={self.mode!r}): write 'binary' or 'structured'")
        for word in ("source", "type", "subject", "dataschema"):
            value = getattr(self, word)
            if value is not None and not callable(value):
                check_attribute(word, value)
        if self.time is not None and not callable(self.time):
            raise UsageError(f"CloudEvents(time={self.time!r}): write a function of the event, lambda event: event.at")
        if not callable(self.extensions):
            check_extensions(self.extensions)

    def attributes(self, event: Any, id: str, source: str, type: str) -> dict[str, Scalar]:
        """What is said of an event.

        Args:
            id, source, type: what is said where this says nothing.

        Raises:
            UsageError: a function gives what cannot be written.
        """
        moment = datetime.now(UTC) if self.time is None else self.time(event)
        if not isinstance(moment, datetime):
            raise UsageError(f"CloudEvents(time=...) gave {moment!r}: return a datetime")
        said: dict[str, Scalar] = {"specversion": VERSION, "id": check_attribute("id", id)}
        for word, value, default in (("source", self.source, source), ("type", self.type, type)):
            said[word] = default if value is None else check_attribute(word, value(event) if callable(value) else value)
        subject = self.subject(event) if callable(self.subject) else self.subject
        if subject is not None:
            said["subject"] = check_attribute("subject", str(subject))
        said["time"] = write_time(moment)
        if self.dataschema is not None:
            said["dataschema"] = self.dataschema
        more = check_extensions(self.extensions(event)) if callable(self.extensions) else self.extensions
        return {**said, **more}


def check_cloudevents(value: Any) -> CloudEvents | None:
    """What the option of a topic asks for: a mode, all of it, or nothing.

    Raises:
        UsageError: it is something else.
    """
    if value is None or value is False:
        return None
    if value is True:
        return CloudEvents()
    if isinstance(value, CloudEvents):
        return value
    if isinstance(value, str):
        return CloudEvents(mode=value)  # type: ignore[arg-type]
    raise UsageError(f"cloudevents={value!r}: write True, 'structured' or CloudEvents(source='/shop')")


def check_attribute(name: str, value: Any) -> str:
    """Return the value of an attribute that is a text.

    Raises:
        UsageError: it is none, or empty, or has a control sign.
    """
    if not isinstance(value, str) or not value or _CONTROL.search(value):
        raise UsageError(f"the CloudEvents attribute {name}={value!r}: write a text of one line")
    return value


def check_extensions(extensions: Any) -> dict[str, Scalar]:
    """A copy of further attributes.

    Raises:
        UsageError: a name or a value cannot be written.
    """
    if not isinstance(extensions, Mapping):
        raise UsageError(f"CloudEvents(extensions={extensions!r}): write a dict, {{'tenant': 'acme'}}")
    for name, value in extensions.items():
        if not isinstance(name, str) or not _NAME.fullmatch(name) or name in _TAKEN:
            raise UsageError(f"the CloudEvents extension {name!r}: write lower-case letters and digits, no core name")
        if isinstance(value, bool | int):
            continue
        check_attribute(name, value)
    return dict(extensions)
