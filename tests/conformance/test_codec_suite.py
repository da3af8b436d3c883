"""The suite for codecs can fail: each of these breaks one promise, and the case for that says so."""

from __future__ import annotations

import json
from collections.abc import Callable
from types import GenericAlias, UnionType
from typing import Any

import pytest

from eventmicro import conformance
from eventmicro.codec import Decoder, Encoder, Opened
from eventmicro.codecs.json import JsonCodec
from eventmicro.codecs.jsonrpc import JsonRpc
from eventmicro.errors import DecodeError, ServiceError


class Liar(JsonCodec):
    """JSON, with one thing wrong."""

    def decoder(self, kind: Any) -> Decoder:
        return self.read(super().decoder(kind), kind)

    def encoder(self, kind: Any) -> Encoder:
        return self.write(super().encoder(kind), kind)

    def read(self, decode: Decoder, kind: Any) -> Decoder:
        return decode

    def write(self, encode: Encoder, kind: Any) -> Encoder:
        return encode


class Capital(Liar):
    content_type = "Application/JSON"


class Unsure(Liar):
    """Fails at what is no type."""

    def handles(self, kind: Any) -> bool:
        if not isinstance(kind, type | GenericAlias | UnionType | None):
            raise TypeError("no type")
        return kind is int


class Forgetful(Liar):
    def read(self, decode: Decoder, kind: Any) -> Decoder:
        return lambda body: decode(body.replace(b"400", b"401").replace(b"-7", b"-8"))


class Stateful(Liar):
    count = 0

    def write(self, encode: Encoder, kind: Any) -> Encoder:
        Stateful.count += 1
        spaces = b" " * Stateful.count
        return lambda value: encode(value) + spaces


class Generous(Liar):
    def write(self, encode: Encoder, kind: Any) -> Encoder:
        def write(value: Any) -> bytes:
            try:
                return encode(value)
            except Exception:
                return b"null"

        return write


class Hasty(Liar):
    def read(self, decode: Decoder, kind: Any) -> Decoder:
        def read(body: bytes) -> Any:
            try:
                return decode(body)
            except DecodeError:
                return decode(body + b'"}')

        return read

    def handles(self, kind: Any) -> bool:
        return isinstance(kind, type) and kind.__name__ in ("Part", "Row")


class Dropping(Liar):
    def read(self, decode: Decoder, kind: Any) -> Decoder:
        return lambda body: decode(body.rstrip(b"\x00\xff}") + b"}" * (body.count(b"{") > 0))

    def handles(self, kind: Any) -> bool:
        return isinstance(kind, type) and kind.__name__ in ("Part", "Point")


class Naked(Liar):
    def read(self, decode: Decoder, kind: Any) -> Decoder:
        return lambda body: decode(json.dumps(json.loads(body)).encode())


class Greedy(Liar):
    def read(self, decode: Decoder, kind: Any) -> Decoder:
        def read(body: bytes) -> Any:
            room = bytearray(100_000_000)
            return decode(body) if room else None

        return read


class Talkative(Liar):
    def read(self, decode: Decoder, kind: Any) -> Decoder:
        def read(body: bytes) -> Any:
            try:
                return decode(body)
            except DecodeError as error:
                raise DecodeError(f"{error}: {body!r}", error.errors) from None

        return read


LIARS: list[tuple[type[Liar], str]] = [
    (Capital, "the_content_type_is_in_small_letters_and_without_parameters"),
    (Unsure, "it_says_of_anything_whether_it_handles_it"),
    (Forgetful, "a_value_comes_back_as_it_was"),
    (Stateful, "what_is_compiled_twice_does_the_same"),
    (Generous, "a_value_of_another_type_is_an_encode_error"),
    (Generous, "a_value_that_contains_itself_is_an_encode_error"),
    (Hasty, "a_body_that_ends_too_early_is_a_decode_error_or_another_value"),
    (Dropping, "what_follows_behind_a_body_is_not_dropped"),
    (Naked, "a_damaged_body_is_a_decode_error_or_another_value"),
    (Naked, "a_hostile_body_is_a_decode_error_or_a_value_and_takes_little_memory"),
    (Greedy, "a_hostile_body_is_a_decode_error_or_a_value_and_takes_little_memory"),
    (Talkative, "a_body_of_another_type_is_told_without_what_it_holds"),
    (Forgetful, "the_form_of_an_error_comes_back_as_it_was"),
]


@pytest.mark.parametrize(("liar", "name"), LIARS, ids=[f"{liar.__name__}-{name[:30]}" for liar, name in LIARS])
def test_a_codec_that_breaks_a_promise_is_caught(liar: type[Liar], name: str) -> None:
    (case,) = [case for case in conformance.codec_cases(liar()) if str(case) == name]
    with pytest.raises((AssertionError, ValueError, TypeError, RecursionError)):
        case.run()


class Lost(JsonRpc):
    def open_request(self, envelope: bytes) -> Opened:
        opened = super().open_request(envelope)
        opened.body = b""
        return opened


class Raising(JsonRpc):
    def open_request(self, envelope: bytes) -> Opened:
        json.loads(envelope)
        return super().open_request(envelope)


class Silent(JsonRpc):
    def open_reply(self, envelope: bytes, endpoint: str) -> bytes:
        try:
            return super().open_reply(envelope, endpoint)
        except ServiceError:
            return b"null"


ENVELOPES: list[tuple[Callable[[], JsonRpc], str]] = [
    (Lost, "a_request_comes_out_as_it_was_put_in"),
    (Raising, "a_hostile_request_is_said_to_be_wrong_and_can_be_answered"),
    (Silent, "an_error_comes_out_with_all_that_it_says"),
]


@pytest.mark.parametrize(("liar", "name"), ENVELOPES)
def test_an_envelope_that_breaks_a_promise_is_caught(liar: Callable[[], JsonRpc], name: str) -> None:
    (case,) = [case for case in conformance.codec_cases(liar()) if str(case) == name]
    with pytest.raises((AssertionError, ValueError, RecursionError)):
        case.run()
