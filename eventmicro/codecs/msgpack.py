"""MessagePack by msgspec: as JSON, in fewer bytes, with bytes and moments as they are; https://msgpack.org."""

from __future__ import annotations

from typing import Any

from eventmicro.codec import Decoder, Encoder
from eventmicro.codecs.needed import check_installed, need
from eventmicro.codecs.plain import as_text, can_be_plain, plain
from eventmicro.codecs.structs import handles_by_msgspec, import_msgspec, struct_check, struct_decoder, unwritable
from eventmicro.codecs.validation import name_of
from eventmicro.errors import DecodeError, EncodeError
from eventmicro.wire import MSGPACK

NEEDS = ("msgspec", "msgspec", "msgpack", MSGPACK)


class MsgpackCodec:
    """Whatever JSON takes. A moment with a time zone travels as MessagePack's timestamp, and comes back in UTC."""

    content_type = MSGPACK

    def __init__(self) -> None:
        check_installed(*NEEDS)

    def handles(self, kind: Any) -> bool:
        return can_be_plain(kind)

    def encoder(self, kind: Any) -> Encoder:
        if handles_by_msgspec(kind):
            return _struct_encoder(kind)
        write = need(*NEEDS).msgpack.Encoder(enc_hook=as_text).encode
        dump = plain(kind).dump

        def encode(value: Any) -> bytes:
            try:
                return write(dump(value))  # type: ignore[no-any-return]
            except (TypeError, ValueError, OverflowError, RecursionError) as error:
                raise EncodeError(f"{name_of(kind)} cannot be written as MessagePack: {error}") from error

        return encode

    def decoder(self, kind: Any) -> Decoder:
        msgspec = need(*NEEDS)
        if handles_by_msgspec(kind):
            return struct_decoder(kind, import_msgspec(kind).msgpack.Decoder(kind).decode)
        read, form = msgspec.msgpack.Decoder().decode, plain(kind)

        def decode(body: bytes) -> Any:
            if not body and form.takes_none:
                return None
            try:
                value = read(body)
            except (msgspec.MsgspecError, RecursionError, ValueError, OverflowError, TypeError):
                raise DecodeError(f"not a valid {name_of(kind)}: no MessagePack") from None
            return form.load(value)

        return decode


def _struct_encoder(kind: Any) -> Encoder:
    write = import_msgspec(kind).msgpack.Encoder().encode
    check = struct_check(kind)

    def encode(value: Any) -> bytes:
        if value.__class__ is not kind:
            check(value)
        try:
            return write(value)  # type: ignore[no-any-return]
        except Exception as error:  # of the user's own objects within, too
            raise unwritable(kind, error) from error

    return encode
