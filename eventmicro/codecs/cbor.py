"""CBOR (RFC 8949) by cbor2: as JSON, with bytes, moments, dates, UUIDs and decimals as they are."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from decimal import Decimal
from fractions import Fraction
from importlib import import_module
from io import BytesIO
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Address, IPv6Interface, IPv6Network
from re import Pattern
from typing import Any

from eventmicro.codec import Decoder, Encoder
from eventmicro.codecs.needed import check_installed, need
from eventmicro.codecs.plain import as_text, can_be_plain, plain
from eventmicro.codecs.validation import name_of
from eventmicro.errors import DecodeError, EncodeError
from eventmicro.wire import CBOR

NEEDS = ("cbor2", "cbor2", "cbor", CBOR)

# How deep a body may be nested, and by how many digits a decimal may move its point: of one of a few bytes could else
# become an integer of gigabytes, where a model wants an integer.
MAX_DEPTH = 400
MAX_EXPONENT = 6144
# The tags of a moment, a decimal, and what is no plain data: references, patterns, mails, addresses, fractions.
MOMENT = 0
DECIMAL = 4
REFUSED = (5, 25, 28, 29, 30, 35, 36, 52, 54, 256, 260, 261)


class CborCodec:
    """Whatever JSON takes."""

    content_type = CBOR

    def __init__(self) -> None:
        check_installed(*NEEDS)

    def handles(self, kind: Any) -> bool:
        return can_be_plain(kind)

    def encoder(self, kind: Any) -> Encoder:
        dumps, dump = need(*NEEDS).dumps, plain(kind).dump

        def encode(value: Any) -> bytes:
            try:
                plain_value = dump(value)
                _check_depth(plain_value, MAX_DEPTH)
                return dumps(plain_value, default=_write_other, encoders=ENCODERS)  # type: ignore[no-any-return]
            except EncodeError:
                raise
            except Exception as error:
                raise EncodeError(f"{name_of(kind)} cannot be written as CBOR: {error}") from error

        return encode

    def decoder(self, kind: Any) -> Decoder:
        read, form = _reader(need(*NEEDS)), plain(kind)

        def decode(body: bytes) -> Any:
            if not body and form.takes_none:
                return None
            try:
                value = read(body)
            except Exception:  # what a tag of the body's may bring about is not to be foreseen
                raise DecodeError(f"not a valid {name_of(kind)}: no CBOR") from None
            return form.load(value)

        return decode


def _check_depth(value: Any, left: int) -> None:
    """Refuse what is nested deeper than anybody reads; cbor2 would end the process, where it is very much deeper."""
    if not isinstance(value, dict | list | tuple):
        return
    if not left:
        raise EncodeError(f"it is nested deeper than {MAX_DEPTH} levels")
    for part in value.values() if isinstance(value, dict) else value:
        _check_depth(part, left - 1)


def _reader(cbor2: Any) -> Callable[[bytes], Any]:
    """What reads one value, which is all of the body."""
    semantic = {DECIMAL: _read_decimal, **dict.fromkeys(REFUSED, _refuse)}

    def read(body: bytes) -> Any:
        file = BytesIO(body)
        decoder = cbor2.CBORDecoder(
            file,
            tag_hook=_refuse,
            semantic_decoders=semantic,
            max_depth=MAX_DEPTH,
            allow_duplicate_keys=False,
            strict_hashable_types=False,
        )
        value = decoder.decode()
        if file.tell() != len(body):
            raise ValueError("more follows behind it")
        return value

    return read


def _read_decimal(parts: Any, immutable: bool) -> Decimal:
    exponent, digits = parts
    if not (isinstance(exponent, int) and isinstance(digits, int) and abs(exponent) <= MAX_EXPONENT):
        raise ValueError("no decimal")
    return Decimal((int(digits < 0), tuple(map(int, str(abs(digits)))), exponent))


def _refuse(*_: Any) -> Any:
    raise ValueError("a tag that is not taken")


def _write_moment(encoder: Any, value: datetime) -> None:
    """Write a moment; one without a time zone as text, as CBOR has no form for it."""
    text = value.isoformat()
    encoder.encode(text if value.tzinfo is None else import_module("cbor2").CBORTag(MOMENT, text))


def _write_other(encoder: Any, value: Any) -> None:
    """Write what CBOR has no form for."""
    encoder.encode(as_text(value))


# For what cbor2 has tags of its own that are refused here.
AS_TEXT = (
    *(IPv4Address, IPv4Interface, IPv4Network, IPv6Address, IPv6Interface, IPv6Network),
    *(Fraction, Pattern, complex),
)
ENCODERS: dict[type, Callable[[Any, Any], None]] = {datetime: _write_moment, **dict.fromkeys(AS_TEXT, _write_other)}
