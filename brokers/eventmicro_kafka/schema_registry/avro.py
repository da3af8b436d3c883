"""Avro by a schema of the registry: fastavro reads by the one that it was written by, and pydantic what comes of it."""

from __future__ import annotations

import json
from enum import Enum
from io import BytesIO
from typing import Any

from eventmicro.codec import Decoder, Encoder
from eventmicro.errors import DecodeError, UsageError
from eventmicro_kafka.schema_registry.framing import SchemaKey, take_apart
from eventmicro_kafka.schema_registry.registry import Schema, SchemaRegistry
from eventmicro_kafka.schema_registry.writing import FramedCodec, refuse, typed, validated

try:
    import fastavro
    from fastavro.validation import ValidationError
    from fastavro.validation import validate as check_by_schema
except ImportError as error:  # pragma: no cover
    raise UsageError("Avro needs fastavro: pip install 'eventmicro[schema-registry]'") from error


class AvroCodec(FramedCodec):
    """See `SchemaRegistry.avro`."""

    def __init__(self, registry: SchemaRegistry, subject: str, schema: Any, register: bool) -> None:
        super().__init__(registry, "AVRO", subject, schema, register)

    def encoder(self, kind: Any) -> Encoder:
        adapter = typed(kind)

        def encode(value: Any) -> bytes:
            before, schema = self.written_by(kind)
            parsed = self.registry.known(("avro", schema), lambda: self._parse(schema))
            try:
                plain = _plain(adapter.dump_python(value, by_alias=True, warnings="error"))
                check_by_schema(plain, parsed)  # fastavro itself writes 1.5 for an int as 1
                written = BytesIO()
                written.write(before)
                fastavro.schemaless_writer(written, parsed, plain)
            except (ValidationError, ValueError, TypeError, KeyError, AttributeError, OverflowError) as error:
                refuse(kind, error)
            return written.getvalue()

        return encode

    def decoder(self, kind: Any) -> Decoder:
        validate = typed(kind).validate_python

        def decode(body: bytes) -> Any:
            key, at = take_apart(body)
            parsed = self.registry.known(("schema", key), lambda: self._fetch(key))
            return validated(validate, _read(body, at, parsed), kind)

        return decode

    async def _fetch(self, key: SchemaKey) -> Any:
        schema = await self.registry.schema(key)
        if schema.kind != "AVRO":
            raise DecodeError(f"written by schema {key}, which is {schema.kind} and not Avro")
        return await self._parse(schema)

    async def _parse(self, schema: Schema) -> Any:
        named: dict[str, Any] = {}
        await self._parse_references(schema, named, set())
        return fastavro.parse_schema(json.loads(schema.text), named)

    async def _parse_references(self, schema: Schema, named: dict[str, Any], seen: set[tuple[str, int]]) -> None:
        for reference in schema.references:
            if (reference.subject, reference.version) in seen:
                continue
            seen.add((reference.subject, reference.version))
            _, used = await self.registry.version(reference.subject, reference.version)
            await self._parse_references(used, named, seen)
            fastavro.parse_schema(json.loads(used.text), named)


def _read(body: bytes, at: int, parsed: Any) -> Any:
    """What is in a body from there on.

    Raises:
        DecodeError: it is not written by this schema.
    """
    read = BytesIO(body)
    read.seek(at)
    try:
        value = fastavro.schemaless_reader(read, parsed, None)
    except Exception as error:  # whatever fastavro makes of bytes that are none
        raise DecodeError(f"not written by its schema: {type(error).__name__}") from error
    if read.tell() != len(body):
        raise DecodeError(f"not written by its schema: {len(body) - read.tell()} bytes are left over")
    return value


def _plain(value: Any) -> Any:
    """With the values of enums, which Avro has as text."""
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, dict):
        return {_plain(key): _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(each) for each in value]
    return value
