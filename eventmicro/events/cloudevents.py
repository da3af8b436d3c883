"""CloudEvents: how the events of a topic go out as such, and what one that came says of itself."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Self

from eventmicro.cloudevents import (
    BATCH,
    PARTITION_KEY,
    STRUCTURED,
    Binding,
    CloudEvents,
    Scalar,
    as_text,
    data_member,
    is_attribute,
    read_headers,
    read_time,
    write_structured,
)
from eventmicro.codecs import Body
from eventmicro.codecs.cloudevents import is_structured
from eventmicro.codecs.labels import written_as
from eventmicro.compression import MAX_DECOMPRESSED, decompress
from eventmicro.context import Context
from eventmicro.errors import EventMicroError, UsageError
from eventmicro.message import Delivery, Message, Tombstone
from eventmicro.wire import CONTENT_ENCODING, CONTENT_TYPE, JSON, TEXT, content_type, header, without


@dataclass(frozen=True, slots=True)
class Writing:
    """How the events of one topic are written as CloudEvents.

    Attributes:
        options: as its topic says.
        source, type: what is said where that says nothing.
        binding: how the broker carries the attributes.
    """

    options: CloudEvents
    source: str
    type: str
    binding: Binding

    def write(self, message: Message, body: Body, event: Any, headers: dict[str, str]) -> None:
        """Fill in a message; `headers` are its own, and what they say of another event is taken out.

        Raises:
            EncodeError, UsageError: as of `Body.pack`, or an attribute cannot be written.
        """
        said = self._attributes(message, event)
        if message.key is not None:
            said.setdefault(PARTITION_KEY, message.key)
        elif PARTITION_KEY in said:
            message.key = as_text(said[PARTITION_KEY])
        for name in [name for name in headers if is_attribute(name)]:
            del headers[name]
        if self.options.mode == "binary" or isinstance(message, Tombstone):  # which has no body to be in
            message.body = body.pack(event, headers)
            if header(headers, CONTENT_TYPE) is None:
                headers[CONTENT_TYPE] = body.content_type
            message.content_type = header(headers, CONTENT_TYPE)
            message.headers = {**headers, **self.binding.write(said)}
            return
        data = body.write(event, headers)
        form = said["datacontenttype"] = content_type(headers) or body.content_type
        is_bytes, written = body.kind is bytes, written_as(form)
        member = data_member(data, is_json=not is_bytes and written == JSON, is_text=not is_bytes and written == TEXT)
        without(headers, CONTENT_TYPE)
        headers[CONTENT_TYPE] = message.content_type = STRUCTURED
        message.body = body.compress(write_structured(said, member), headers)
        message.headers = headers

    def _attributes(self, message: Message, event: Any) -> dict[str, Scalar]:
        from uuid import uuid4  # which few need, and which looks at the platform

        try:
            return self.options.attributes(event, message.id or str(uuid4()), self.source, self.type)
        except (AttributeError, KeyError, TypeError) as error:
            if event is not None:
                raise
            raise UsageError(
                f"{message.subject}: a function of CloudEvents(...) takes no None, which is a tombstone: {error!r}"
            ) from None


@dataclass(frozen=True, slots=True, kw_only=True)
class CloudEvent:
    """What an event says of itself as a CloudEvent, in whichever mode it came; its data is what the handler takes.

    A handler has it as `about: Annotated[CloudEvent, Depends(CloudEvent.of)]`, or `CloudEvent | None` by
    `CloudEvent.find`.
    """

    id: str
    """Its name; together with `source` no other event's."""
    source: str
    """Where it happened: a URI, or a part of one."""
    type: str
    """What it is, such as `com.example.order.placed`."""
    specversion: str = "1.0"
    """The version of the specification."""
    subject: str | None = None
    """What it is about."""
    time: datetime | None = None
    """When it happened; None: it is not said, or cannot be read."""
    datacontenttype: str | None = None
    """What its data is written in."""
    dataschema: str | None = None
    """The URI of the data's schema."""
    extensions: Mapping[str, Scalar] = field(default_factory=dict)
    """Further attributes; in headers all values are texts."""

    @classmethod
    def of(cls, context: Context) -> Self:
        """What the event at hand says.

        Raises:
            UsageError: it is no CloudEvent.
        """
        found = cls.find(context)
        if found is None:
            raise UsageError(
                f"the message on {context.topic} is no CloudEvent: it has no id, source and type as one; "
                f"where some are none take CloudEvent | None by Depends(CloudEvent.find)"
            )
        return found

    @classmethod
    def find(cls, context: Context) -> Self | None:
        """The same, or None where it is none."""
        came = getattr(context, "came", None)
        delivery = came if isinstance(came, Delivery) else Delivery(context.topic, headers=context.metadata)
        return cls._read(delivery)

    @classmethod
    def all_of(cls, context: Context) -> list[Self | None]:
        """What each event of a batch says, in their order; None: it is no CloudEvent."""
        several = context.delivery if isinstance(context.delivery, list) else None
        return [cls.find(context)] if several is None else [cls._read(each) for each in several]

    @classmethod
    def _read(cls, delivery: Delivery) -> Self | None:
        label = content_type(delivery.headers)
        said: Mapping[str, Any] = read_headers(delivery.headers, percent=delivery.cloudevents.percent)
        if label == STRUCTURED:
            said = _envelope(delivery)
        elif label != BATCH and said:
            said = {"datacontenttype": header(delivery.headers, CONTENT_TYPE), **said}
        elif is_structured(delivery.body):
            said = _envelope(delivery)
        if delivery.key is not None and said:
            said = {PARTITION_KEY: delivery.key, **said}
        texts = {name: _text(said.get(name)) for name in _TEXTS}
        if not (texts["id"] and texts["source"] and texts["type"]):
            return None
        known = {name: value for name, value in texts.items() if value is not None}
        extensions = {name: value for name, value in said.items() if name not in _KNOWN and _is_scalar(value)}
        return cls(**known, time=read_time(said.get("time")), extensions=extensions)


_TEXTS = ("id", "source", "type", "specversion", "subject", "datacontenttype", "dataschema")
_KNOWN = frozenset((*_TEXTS, "time", "data", "data_base64"))


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _is_scalar(value: Any) -> bool:
    return isinstance(value, str | int | bool)


def _envelope(delivery: Delivery) -> Mapping[str, Any]:
    """The members of an event in structured mode; none where it cannot be read, which its handler has been."""
    body, encoding = delivery.body, header(delivery.headers, CONTENT_ENCODING)
    try:
        if encoding is not None:
            body = decompress(body, encoding, MAX_DECOMPRESSED)
        members = json.loads(body)
    except (ValueError, RecursionError, EventMicroError):
        return {}
    return members if isinstance(members, dict) else {}
