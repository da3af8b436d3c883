"""BSON-RPC, go-micro's envelope around BSON: a header and the message, two documents one behind the other.

The header has `ServiceMethod` and `Seq`, in a reply also `Error`, in which an error stands as the JSON that it is
elsewhere. Go's libraries write texts as bytes, and names in small letters; both are read.
"""

from __future__ import annotations

import json
from importlib import import_module
from typing import Any

from eventmicro.codec import Opened
from eventmicro.codecs.bson import check_bson, make_options
from eventmicro.codecs.protorpc import received
from eventmicro.errors import BadRequest, DecodeError, ServiceError
from eventmicro.wire import BSON, BSON_RPC

# The number of our requests: it is the reply subject that tells whose a reply is.
SEQ = "1"
# A document without fields, which stands for no message.
EMPTY = b"\x05\x00\x00\x00\x00"


class BsonRpc:
    """The envelope of BSON-RPC."""

    content_type = BSON_RPC
    inner = BSON

    def __init__(self) -> None:
        check_bson(BSON_RPC)

    def request(self, method: str, body: bytes) -> bytes:
        return _write({"ServiceMethod": method, "Seq": SEQ}) + (body or EMPTY)

    def open_request(self, envelope: bytes) -> Opened:
        try:
            header, body = _open(envelope)
        except DecodeError as error:
            return Opened(wrong=BadRequest(f"the request is {error}"))
        return Opened(body, _text(header.get("servicemethod")), header.get("seq", ""))

    def reply(self, request: Opened, body: bytes) -> bytes:
        return _write({"ServiceMethod": request.method, "Seq": request.id, "Error": ""}) + (body or EMPTY)

    def error(self, request: Opened, error: ServiceError, form: dict[str, Any]) -> bytes:
        return _write({"ServiceMethod": request.method, "Seq": request.id or "", "Error": json.dumps(form)}) + EMPTY

    def open_reply(self, envelope: bytes, endpoint: str) -> bytes:
        header, body = _open(envelope)
        if error := _text(header.get("error")):
            raise received(error, endpoint)
        return body


def _open(envelope: bytes) -> tuple[dict[str, Any], bytes]:
    """The header, its names in small letters, and the message; empty where its document is.

    Raises:
        DecodeError: it is no such envelope.
    """
    length = int.from_bytes(envelope[:4], "little")
    try:
        header = import_module("bson").decode(envelope[:length], make_options())
    except Exception:  # InvalidBSON, and whatever is within it
        raise DecodeError("not BSON-RPC: its header is no document") from None
    body = envelope[length:]
    return {name.lower(): value for name, value in header.items()}, b"" if body == EMPTY else body


def _write(header: dict[str, Any]) -> bytes:
    document: bytes = import_module("bson").encode(header)
    return document


def _text(value: Any) -> str:
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return value if isinstance(value, str) else ""
