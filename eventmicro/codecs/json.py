"""JSON by pydantic-core: bytes to typed values and back, with no dict in between."""

from __future__ import annotations

from codecs import BOM_UTF8
from collections.abc import Callable
from contextlib import suppress
from functools import lru_cache
from typing import Any

from eventmicro.codec import Decoder, Encoder, why_unwritten
from eventmicro.codecs.finite import find_null, finite_check
from eventmicro.codecs.structs import StructJsonCodec, holds_structs
from eventmicro.codecs.subclasses import is_polymorphic, keeping_subclasses
from eventmicro.codecs.validation import (
    SUBCLASSES,
    decode_error,
    is_record,
    make_adapter,
    name_of,
    refuse_wrong_fields,
    takes_none,
    value_check,
)
from eventmicro.errors import DecodeError, EncodeError
from eventmicro.wire import JSON


class JsonCodec:
    """Whatever pydantic knows: models, dataclasses, typed dicts, lists, dicts, scalars, unions."""

    content_type = JSON

    def handles(self, kind: Any) -> bool:
        return kind not in (bytes, None, type(None))

    def encoder(self, kind: Any) -> Encoder:
        adapter = make_adapter(kind)
        check = value_check(kind, adapter)
        of_subclass = lru_cache(SUBCLASSES)(self.encoder) if is_record(kind) else None
        check_finite = finite_check(adapter, name_of(kind))
        refuse_wrong_fields(__name__)
        write: Callable[..., bytes] = adapter.serializer.to_json

        def write_first(value: Any, *, by_alias: bool) -> bytes:
            nonlocal write, check_finite
            write = keeping_subclasses(adapter, adapter.serializer.to_json)
            if is_polymorphic(write):
                check_finite = finite_check(adapter, name_of(kind), polymorphic=True)
            return write(value, by_alias=by_alias)  # type: ignore[no-any-return]

        write = write_first

        def encode(value: Any) -> bytes:
            if value.__class__ is not kind:
                check(value)
                if of_subclass is not None:  # all its fields travel, not only those of the type
                    return of_subclass(value.__class__)(value)
            try:
                body = write(value, by_alias=True)
                if check_finite is not None and find_null(body):
                    check_finite(value)
                return body
            except (ValueError, RecursionError, UserWarning) as error:
                if holds_structs(kind, value):
                    return StructJsonCodec().encoder(kind)(value)
                why, cause = why_unwritten(error)
                raise EncodeError(f"{name_of(kind)} cannot be written as JSON: {why}") from cause

        return encode

    def decoder(self, kind: Any, otherwise: Decoder | None = None) -> Decoder:
        """See `Codec`.

        Args:
            otherwise: reads a body that is no JSON of the type; None: it is refused.
        """
        from pydantic import ValidationError

        adapter = make_adapter(kind)
        validate_json = adapter.validator.validate_json
        is_optional = takes_none(adapter)

        def decode(body: bytes) -> Any:
            try:
                return validate_json(body)
            except ValidationError as error:
                if not body and is_optional:
                    return None
                if body[:3] == BOM_UTF8:
                    return decode(body[3:])
                if otherwise is not None and body:
                    with suppress(DecodeError):
                        return otherwise(body)
                raise decode_error(kind, error) from None

        return decode
