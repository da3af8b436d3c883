"""The data of a CloudEvent in structured mode, which a handler takes as if it had come alone."""

from __future__ import annotations

import json
from base64 import b64decode
from binascii import Error
from collections.abc import Callable
from typing import Any

from eventmicro.cloudevents import BATCH, FORMATS, STRUCTURED
from eventmicro.codec import Decoder
from eventmicro.codecs.members import items_of, members_of
from eventmicro.errors import DecodeError, UnsupportedMediaType
from eventmicro.wire import JSON, MAX_CONTENT_TYPE, media_type

# No event holds more of them: a peer may send what it likes.
MOST_TOGETHER = 10_000

SPECVERSION = b'"specversion"'
NEEDED, DATA = {"specversion", "id", "source", "type"}, {"data", "data_base64"}

Load = Callable[[bytes, str], Any]
"""Decodes data that is in a content type."""


def is_cloudevent(content_type: str) -> bool:
    """Whether this is one of the formats of CloudEvents."""
    return content_type.startswith(FORMATS)


def is_structured(body: bytes) -> bool:
    """Whether a body is an event in structured mode, whatever its label is: Dapr's are `text/plain`, or nothing."""
    if SPECVERSION not in body:
        return False
    try:
        members = members_of(body.decode())
    except (ValueError, RecursionError):
        return False
    return members.keys() >= NEEDED and bool(DATA & members.keys())


def data_decoder(content_type: str, name: str, load: Load, load_one: Load | None) -> Decoder:
    """The decoder for the data within one of the formats of CloudEvents.

    Args:
        name: that of the type, for errors.
        load: decodes the data.
        load_one: decodes those of a batch, one by one; None: the type is no list.

    Raises:
        UnsupportedMediaType: this format is not read.
    """
    if content_type == STRUCTURED:
        return lambda body: _load_data(body.decode("utf-8", "replace"), load)
    if content_type == BATCH and load_one is not None:
        return lambda body: [_load_data(event, load_one) for event in _events(body)]
    if content_type == BATCH:
        raise UnsupportedMediaType(f"{BATCH} holds several events, and {name} is one: send them alone, or take a list")
    raise UnsupportedMediaType(f"{content_type[:100]!r} is not read here: send {STRUCTURED}, or the binary mode")


def _load_data(event: str, load: Load) -> Any:
    try:
        members = members_of(event)
        if "specversion" not in members:
            raise DecodeError("not a CloudEvent: it has no specversion")
        media = _media_type(members)
        data = _data(members, media)
    except (ValueError, TypeError, RecursionError, Error):
        raise DecodeError("not a CloudEvent in JSON") from None
    return load(data, media)


def _media_type(members: dict[str, str]) -> str:
    """What the data is written in: one that were a CloudEvent, too, would be looked through once for each level."""
    label = json.loads(members.get("datacontenttype", "null"))
    if label is not None and not isinstance(label, str):
        raise DecodeError("not a CloudEvent: its datacontenttype is no text")
    media = media_type((label or JSON)[:MAX_CONTENT_TYPE])
    if is_cloudevent(media):
        raise DecodeError("a CloudEvent within a CloudEvent")
    return media


def _data(members: dict[str, str], media: str) -> bytes:
    """The data, as bytes: what is no JSON stands there as text, or in base64."""
    if "data_base64" in members:
        return b64decode(json.loads(members["data_base64"]), validate=True)
    data = members.get("data", "")
    if data[:1] == '"' and not (media.endswith(("/json", "+json"))):
        return str(json.loads(data)).encode()
    return data.encode()


def _events(body: bytes) -> list[str]:
    try:
        events = items_of(body.decode())
    except (ValueError, RecursionError):
        raise DecodeError("not a batch of CloudEvents in JSON") from None
    if len(events) > MOST_TOGETHER:
        raise DecodeError(f"a batch of {len(events)} CloudEvents, and no more than {MOST_TOGETHER} are taken")
    return events
