"""Protobuf by a schema of the registry. Who reads it needs no schema: the message's own numbers say what is in it."""

from __future__ import annotations

from base64 import b64encode
from typing import Any

from eventmicro.codec import Decoder, Encoder
from eventmicro.errors import DecodeError, EncodeError, UsageError
from eventmicro_kafka.schema_registry.framing import skip_indexes, take_apart, write_indexes
from eventmicro_kafka.schema_registry.registry import SchemaRegistry
from eventmicro_kafka.schema_registry.writing import FramedCodec

try:
    from google.protobuf.message import DecodeError as ParseError
    from google.protobuf.message import Message
except ImportError as error:  # pragma: no cover
    raise UsageError("protobuf is missing here: pip install 'eventmicro[protobuf]'") from error


class ProtobufCodec(FramedCodec):
    """See `SchemaRegistry.protobuf`."""

    def __init__(self, registry: SchemaRegistry, subject: str, register: bool) -> None:
        super().__init__(registry, "PROTOBUF", subject, None, register)

    def handles(self, kind: Any) -> bool:
        return isinstance(kind, type) and issubclass(kind, Message)

    def own_schema(self, kind: Any) -> str | None:
        return b64encode(kind.DESCRIPTOR.file.serialized_pb).decode()

    def encoder(self, kind: Any) -> Encoder:
        indexes = write_indexes(_indexes_of(kind.DESCRIPTOR))

        def encode(value: Any) -> bytes:
            if not isinstance(value, kind):
                raise EncodeError(f"this is no {kind.__name__} but a {type(value).__name__}")
            before, _ = self.written_by(kind)
            return before + indexes + bytes(value.SerializeToString())

        return encode

    def decoder(self, kind: Any) -> Decoder:
        def decode(body: bytes) -> Any:
            _, at = take_apart(body)
            try:
                return kind.FromString(body[skip_indexes(body, at) :])
            except ParseError as error:
                raise DecodeError(f"not a valid {kind.__name__}") from error

        return decode


def _indexes_of(descriptor: Any) -> list[int]:
    """The place of a message among its siblings, from the outermost on."""
    outer = descriptor.containing_type
    if outer is None:
        return [list(descriptor.file.message_types_by_name).index(descriptor.name)]
    return [*_indexes_of(outer), [each.name for each in outer.nested_types].index(descriptor.name)]
