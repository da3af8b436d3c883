"""What every codec must do, ours and anybody's; `eventmicro.codec` is the specification.

    @pytest.mark.parametrize("case", conformance.codec_cases(AvroCodec(), [(Order, Order(sku="a"))]), ids=str)
    def test_codec(case):
        case.run()

The values are some of each kind that JSON can hold, as far as the codec says that it handles their type, and those that
are given. An envelope is held to what envelopes must do.
"""

from __future__ import annotations

import random
import tracemalloc
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from eventmicro.codec import Codec, Envelope
from eventmicro.conformance.envelopes import ENVELOPE_CASES
from eventmicro.conformance.specimens import ERROR, HOSTILE, SPECIMENS, Part, Specimen
from eventmicro.errors import DecodeError, EncodeError, UsageError

# How much memory reading a body of a few hundred KiB may take, in bytes.
MAX_MEMORY = 64 * 1024 * 1024
# How many bodies with a wrong byte are read for each value, and in how many places a body is cut.
DAMAGED = 200
CUTS = 100
SECRET = "hunter2"

Function = Callable[[Any, list[Any]], None]


@dataclass(frozen=True, slots=True)
class CodecCase:
    """One case of the suite, for one codec or envelope."""

    function: Function
    codec: Codec | Envelope
    specimens: list[Any]

    def __str__(self) -> str:
        return self.function.__name__

    def run(self) -> None:
        """Run the case.

        Raises:
            AssertionError: the codec breaks a promise; the message says which.
        """
        self.function(self.codec, self.specimens)


_CASES: list[Callable[[Codec, list[Specimen]], None]] = []


def codec_cases(codec: Codec | Envelope, specimens: Iterable[Any] = ()) -> list[CodecCase]:
    """The cases for a codec, or for an envelope.

    Args:
        specimens: types and values of them that the codec is to carry besides; for an envelope messages in its inner
            content type, besides those of JSON, protobuf and BSON.

    Raises:
        UsageError: it is neither, or handles no type of a value that there is.
    """
    if isinstance(codec, Envelope):
        return [CodecCase(each, codec, list(specimens)) for each in ENVELOPE_CASES]
    if not isinstance(codec, Codec):
        raise UsageError(f"{codec!r} is neither a Codec nor an Envelope")
    handled = [*specimens, *(each for each in SPECIMENS if codec.handles(each[0]))]
    if not handled:
        raise UsageError(f"{codec.content_type} handles none of the types that are tried: give some, by specimens=")
    return [CodecCase(each, codec, handled) for each in _CASES]


def _case(function: Callable[[Codec, list[Specimen]], None]) -> Callable[[Codec, list[Specimen]], None]:
    _CASES.append(function)
    return function


@_case
def the_content_type_is_in_small_letters_and_without_parameters(codec: Codec, specimens: list[Specimen]) -> None:
    kind, _, part = codec.content_type.partition("/")
    assert kind, f"{codec.content_type!r} is no content type"
    assert part, f"{codec.content_type!r} is no content type"
    assert codec.content_type == codec.content_type.lower().partition(";")[0].strip()


@_case
def it_says_of_anything_whether_it_handles_it(codec: Codec, specimens: list[Specimen]) -> None:
    for kind in (object, 7, "Order", Any, list[object], int | None, type(None), None, bytes):
        assert codec.handles(kind) in (True, False), f"handles({kind!r})"


@_case
def a_value_comes_back_as_it_was(codec: Codec, specimens: list[Specimen]) -> None:
    for kind, value in specimens:
        body = codec.encoder(kind)(value)
        assert type(body) is bytes, f"the body of {value!r} is a {type(body).__name__}"
        back = codec.decoder(kind)(body)
        assert back == value, f"{back!r} came back for {value!r}"
        assert type(back) is type(value), f"a {type(back).__name__} came back for {value!r}"


@_case
def what_is_compiled_twice_does_the_same(codec: Codec, specimens: list[Specimen]) -> None:
    for kind, value in specimens:
        first, second = codec.encoder(kind)(value), codec.encoder(kind)(value)
        assert first == second, f"{value!r} is {first!r} and {second!r}"
        assert codec.encoder(kind)(codec.decoder(kind)(first)) == first


@_case
def a_value_of_another_type_is_an_encode_error(codec: Codec, specimens: list[Specimen]) -> None:
    for kind, value in specimens:
        if kind in (Any, dict[str, Any]):
            continue
        encode = codec.encoder(kind)
        for wrong in (object(), lambda: None, Everlasting(), value.__class__):
            _raises_encode_error(encode, wrong)


@_case
def a_value_that_contains_itself_is_an_encode_error(codec: Codec, specimens: list[Specimen]) -> None:
    if not codec.handles(dict[str, Any]):
        return
    circle: dict[str, Any] = {}
    circle["a"] = circle
    deep: dict[str, Any] = {}
    for _ in range(100_000):
        deep = {"a": deep}
    for value in (circle, deep):
        _raises_encode_error(codec.encoder(dict[str, Any]), value)
    while deep:  # or freeing it at once would go as deep
        deep = deep.pop("a")


@_case
def a_number_beyond_64_bits_comes_back_or_is_an_encode_error(codec: Codec, specimens: list[Specimen]) -> None:
    if not codec.handles(Part):
        return
    encode, decode = codec.encoder(Part), codec.decoder(Part)
    for number in (2**63, 2**64 - 1, 2**64, -(2**63) - 1, 2**200):
        try:
            body = encode(Part(sku="a", count=number))
        except EncodeError:
            continue
        assert decode(body).count == number


@_case
def a_body_that_ends_too_early_is_a_decode_error_or_another_value(codec: Codec, specimens: list[Specimen]) -> None:
    for kind, value in specimens:
        body, decode = codec.encoder(kind)(value), codec.decoder(kind)
        for end in random.Random(1).sample(range(1, len(body)), min(CUTS, len(body) - 1)) if body else ():  # noqa: S311
            read = _read(decode, body[:end])
            assert read is NOTHING or read != value, f"{body[:end]!r} is {value!r} though it ends too early"


@_case
def what_follows_behind_a_body_is_not_dropped(codec: Codec, specimens: list[Specimen]) -> None:
    for kind, value in specimens:
        body, decode = codec.encoder(kind)(value), codec.decoder(kind)
        for more in (b"\x00", b"\xff", b"}"):
            read = _read(decode, body + more)
            assert read is NOTHING or read != value, f"{more!r} behind {value!r} is dropped"


@_case
def a_damaged_body_is_a_decode_error_or_another_value(codec: Codec, specimens: list[Specimen]) -> None:
    dice = random.Random(7)  # noqa: S311
    for kind, value in specimens:
        body, decode = codec.encoder(kind)(value), codec.decoder(kind)
        for _ in range(DAMAGED if body else 0):
            damaged = bytearray(body)
            damaged[dice.randrange(len(body))] = dice.randrange(256)
            _read(decode, bytes(damaged))


@_case
def a_hostile_body_is_a_decode_error_or_a_value_and_takes_little_memory(
    codec: Codec, specimens: list[Specimen]
) -> None:
    decoders = [(kind, codec.decoder(kind)) for kind, _ in specimens]
    for name, body in HOSTILE.items():
        for kind, decode in decoders:
            with _little_memory(f"{name}, read as {kind}"):
                _read(decode, body)


@_case
def a_body_of_another_type_is_told_without_what_it_holds(codec: Codec, specimens: list[Specimen]) -> None:
    if not (codec.handles(dict[str, Any]) and codec.handles(Part)):
        return
    decode = codec.decoder(Part)
    for wrong in ({"sku": {SECRET: 1}, "count": SECRET}, {"count": SECRET}):
        error = _decode_error(decode, codec.encoder(dict[str, Any])(wrong))
        assert SECRET not in f"{error} {error.errors}", f"{error} {error.errors}"
        assert all({"loc", "msg", "type"} <= set(entry) for entry in error.errors), error.errors
        assert error.__cause__ is None
        assert error.__suppress_context__, "the library's own error is shown behind it"


@_case
def the_form_of_an_error_comes_back_as_it_was(codec: Codec, specimens: list[Specimen]) -> None:
    if codec.handles(dict[str, Any]):
        body = codec.encoder(dict[str, Any])(ERROR)
        assert codec.decoder(dict[str, Any])(body) == ERROR


class Everlasting:
    """Nothing that anybody sends."""

    def __repr__(self) -> str:
        return SECRET


NOTHING = object()


def _read(decode: Callable[[bytes], Any], body: bytes) -> Any:
    """What is read, or NOTHING where it is refused, by DecodeError alone."""
    try:
        return decode(body)
    except DecodeError:
        return NOTHING


def _decode_error(decode: Callable[[bytes], Any], body: bytes) -> DecodeError:
    try:
        read = decode(body)
    except DecodeError as error:
        return error
    raise AssertionError(f"{body!r} was read as {read!r}")


def _raises_encode_error(encode: Callable[[Any], bytes], value: Any) -> None:
    try:
        body = encode(value)
    except EncodeError:
        return
    raise AssertionError(f"a {type(value).__name__} was encoded, as {body[:100]!r}")


class _little_memory:  # noqa: N801 - it is used as a function
    """Within it no more than MAX_MEMORY is taken."""

    def __init__(self, what: str) -> None:
        self._what = what

    def __enter__(self) -> None:
        tracemalloc.start()

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert kind is not None or peak < MAX_MEMORY, f"{self._what} took {peak} bytes of memory"
