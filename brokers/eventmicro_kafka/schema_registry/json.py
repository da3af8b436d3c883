"""JSON by a schema of the registry. Who reads it needs no schema: the type says what it takes."""

from __future__ import annotations

import json
from typing import Any

from eventmicro.codec import Decoder, Encoder
from eventmicro_kafka.schema_registry.framing import take_apart
from eventmicro_kafka.schema_registry.registry import SchemaRegistry
from eventmicro_kafka.schema_registry.writing import FramedCodec, refuse, typed, validated


class JsonCodec(FramedCodec):
    """See `SchemaRegistry.json`."""

    def __init__(self, registry: SchemaRegistry, subject: str, schema: Any, register: bool) -> None:
        super().__init__(registry, "JSON", subject, schema, register)

    def own_schema(self, kind: Any) -> str | None:
        return json.dumps(typed(kind).json_schema(mode="serialization"))

    def encoder(self, kind: Any) -> Encoder:
        adapter = typed(kind)

        def encode(value: Any) -> bytes:
            before, _ = self.written_by(kind)
            try:
                return before + bytes(adapter.dump_json(value, by_alias=True, warnings="error"))
            except ValueError as error:
                refuse(kind, error)

        return encode

    def decoder(self, kind: Any) -> Decoder:
        validate = typed(kind).validate_json

        def decode(body: bytes) -> Any:
            _, at = take_apart(body)
            return validated(validate, body[at:], kind)

        return decode
