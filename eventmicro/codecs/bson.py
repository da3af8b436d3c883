"""BSON by pymongo's own `bson`: documents as MongoDB has them; https://bsonspec.org.

A BSON document is a mapping, so only types that are one travel in it: models, dataclasses, dicts with texts as keys.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, datetime
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from eventmicro.codec import Decoder, Encoder
from eventmicro.codecs.needed import check_installed
from eventmicro.codecs.plain import as_text, plain
from eventmicro.codecs.structs import handles_by_msgspec
from eventmicro.codecs.validation import name_of
from eventmicro.errors import AdapterNotFound, DecodeError, EncodeError
from eventmicro.wire import BSON


class BsonCodec:
    """Types that are a mapping. A moment with microseconds, or without a time zone, is text: BSON's cannot say it."""

    content_type = BSON

    def __init__(self) -> None:
        check_bson(BSON)

    def handles(self, kind: Any) -> bool:
        return is_mapping(kind)

    def encoder(self, kind: Any) -> Encoder:
        bson, dump, options = import_module("bson"), plain(kind).dump, make_options()

        def encode(value: Any) -> bytes:
            try:
                return bson.encode(_fitting(dump(value)), codec_options=options)  # type: ignore[no-any-return]
            except EncodeError:
                raise
            except Exception as error:  # InvalidDocument, OverflowError, RecursionError
                raise EncodeError(f"{name_of(kind)} cannot be written as BSON: {error}") from error

        return encode

    def decoder(self, kind: Any) -> Decoder:
        bson, load, options = import_module("bson"), plain(kind).load, make_options()

        def decode(body: bytes) -> Any:
            try:
                document = bson.decode(body, options) if body else {}  # no body is a document without fields
            except Exception:  # InvalidBSON, and whatever is within it
                raise DecodeError(f"not a valid {name_of(kind)}: no BSON document") from None
            return load(document)

        return decode


def check_bson(what: str) -> None:
    """See that pymongo's bson is there, without loading it.

    Raises:
        AdapterNotFound: it is not installed, or another package of this name stands in its place.
    """
    check_installed("bson", "pymongo", "bson", what)
    spec = find_spec("bson")
    if spec is None or spec.origin is None or not Path(spec.origin).with_name("codec_options.py").exists():
        raise AdapterNotFound(
            f"{what} needs pymongo's bson, and another package of the name 'bson' is in its place: "
            "pip uninstall bson, then pip install --force-reinstall pymongo"
        )


def is_mapping(kind: Any) -> bool:
    """Whether all values of a type are written as an object with fields."""
    origin = get_origin(kind)
    if origin is Annotated:
        return is_mapping(get_args(kind)[0])
    if origin in (Union, UnionType):
        return all(map(is_mapping, get_args(kind)))
    if isinstance(origin, type):
        return issubclass(origin, dict) or is_mapping(origin)
    if not isinstance(kind, type):
        return False
    if handles_by_msgspec(kind):
        return not getattr(getattr(kind, "__struct_config__", None), "array_like", False)
    is_root = getattr(kind, "__pydantic_root_model__", False)
    return not is_root and (issubclass(kind, dict) or any(hasattr(kind, each) for each in _MARKS))


# What the classes of models, dataclasses and typed dicts have.
_MARKS = ("model_fields", "__dataclass_fields__", "__total__")


@cache
def make_options() -> Any:
    """How BSON is read and written here; what only MongoDB has comes as what others have for it."""
    from bson import DBRef, Decimal128, ObjectId
    from bson.binary import UuidRepresentation
    from bson.codec_options import CodecOptions, TypeDecoder, TypeRegistry

    def read(kind: type, as_plain: Callable[[Any], Any]) -> Any:
        fields = {"bson_type": kind, "transform_bson": lambda self, value: as_plain(value)}
        return type(f"Reads{kind.__name__}", (TypeDecoder,), fields)()

    decoders = [
        read(Decimal128, Decimal128.to_decimal),
        read(ObjectId, str),
        read(DBRef, lambda ref: dict(ref.as_doc())),
    ]
    registry = TypeRegistry(decoders, fallback_encoder=as_text)
    return CodecOptions(tz_aware=True, uuid_representation=UuidRepresentation.STANDARD, type_registry=registry)


def _fitting(value: Any) -> Any:
    """The same with what BSON would cut down as text."""
    if isinstance(value, dict):
        return {key if isinstance(key, str) else str(as_text(key)): _fitting(part) for key, part in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return list(map(_fitting, value))
    if isinstance(value, datetime):
        return value if value.tzinfo is not None and value.microsecond % 1000 == 0 else value.isoformat()
    return value.isoformat() if isinstance(value, date) else value
