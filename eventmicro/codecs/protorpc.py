"""PROTO-RPC, go-micro's envelope around protobuf messages: a header and the message, each behind its length.

The header is a protobuf message itself: `service_method` 1, `seq` 2 (fixed64), and in a reply `error` 3, in which an
error stands as the JSON that it is elsewhere. A length is 4 bytes, the highest first.
"""

from __future__ import annotations

import json
import struct
from functools import cache
from typing import Any

from eventmicro.codec import Opened
from eventmicro.codecs.needed import check_installed
from eventmicro.errors import BadRequest, DecodeError, ServiceError
from eventmicro.wire import PROTO_RPC, PROTOBUF

# The number of our requests: it is the reply subject that tells whose a reply is.
SEQ = 1
_LENGTH = struct.Struct(">I")


class ProtoRpc:
    """The envelope of PROTO-RPC."""

    content_type = PROTO_RPC
    inner = PROTOBUF

    def __init__(self) -> None:
        check_installed("google.protobuf", "protobuf", "protobuf", PROTO_RPC)

    def request(self, method: str, body: bytes) -> bytes:
        return _framed(_header(service_method=method, seq=SEQ), body)

    def open_request(self, envelope: bytes) -> Opened:
        try:
            header, body = _open(envelope)
        except DecodeError as error:
            return Opened(wrong=BadRequest(f"the request is {error}"))
        return Opened(body, header.service_method, header.seq)

    def reply(self, request: Opened, body: bytes) -> bytes:
        return _framed(_header(service_method=request.method, seq=request.id, error=""), body)

    def error(self, request: Opened, error: ServiceError, form: dict[str, Any]) -> bytes:
        told = json.dumps(form)
        return _framed(_header(service_method=request.method, seq=request.id or 0, error=told), b"")

    def open_reply(self, envelope: bytes, endpoint: str) -> bytes:
        header, body = _open(envelope)
        if header.error:
            raise received(header.error, endpoint)
        return body


def received(error: str, endpoint: str) -> ServiceError:
    """The error of a reply: the JSON of one of ours, or of go-micro's, or any text."""
    try:
        form = json.loads(error)
    except (ValueError, RecursionError):
        form = None
    code = form.get("code") if isinstance(form, dict) else None
    number = code if isinstance(code, int) and 0 < code < 10**8 else 500
    return ServiceError.from_form(form, code=number, detail=error, id=endpoint)


def _open(envelope: bytes) -> tuple[Any, bytes]:
    """Header and message.

    Raises:
        DecodeError: it is no such envelope.
    """
    from google.protobuf.message import DecodeError as WrongMessage

    head, rest = _frame(envelope)
    body, rest = _frame(rest)
    if rest:
        raise DecodeError("not PROTO-RPC: more follows behind the message")
    try:
        header = _header_class().FromString(head)
    except WrongMessage:
        header = None
    if header is None or not isinstance(header.service_method, str) or not isinstance(header.error, str):
        raise DecodeError("not PROTO-RPC: its header is none")  # or has a text that is no UTF-8, which comes as bytes
    return header, body


def _framed(header: Any, body: bytes) -> bytes:
    head = header.SerializeToString()
    return b"".join((_LENGTH.pack(len(head)), head, _LENGTH.pack(len(body)), body))


def _frame(rest: bytes) -> tuple[bytes, bytes]:
    """The first frame, and what follows it."""
    if len(rest) < _LENGTH.size:
        raise DecodeError("not PROTO-RPC: a length is missing")
    end = _LENGTH.size + _LENGTH.unpack_from(rest)[0]
    if end > len(rest):
        raise DecodeError("not PROTO-RPC: it ends too early")
    return rest[_LENGTH.size : end], rest[end:]


def _header(**fields: Any) -> Any:
    return _header_class()(**fields)


@cache
def _header_class() -> Any:
    """The class of headers, made here: generated code would ask for one version of protobuf."""
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

    kinds = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name="eventmicro/protorpc.proto", package="protorpc", syntax="proto2")
    message = file.message_type.add(name="Header")
    fields = (("service_method", kinds.TYPE_STRING), ("seq", kinds.TYPE_FIXED64), ("error", kinds.TYPE_STRING))
    for number, (name, kind) in enumerate(fields, start=1):
        message.field.add(name=name, number=number, type=kind, label=kinds.LABEL_OPTIONAL)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("protorpc.Header"))
