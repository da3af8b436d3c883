"""labels: what others say of a body is believed as far as the body bears it out, and no body is lost for its label."""

from __future__ import annotations

import encodings
import gzip
import json
import sys
import types
import zlib
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal
from uuid import UUID

import pytest
from google.protobuf.wrappers_pb2 import Int64Value
from pydantic import BaseModel, Field

from eventmicro import charsets, compression
from eventmicro.charsets import charset_of, known_charset
from eventmicro.codecs import Codecs
from eventmicro.compression import decompress
from eventmicro.errors import ContentTooLarge, DecodeError, UnsupportedMediaType
from eventmicro.wire import Form, content_type, form_of


class Order(BaseModel):
    sku: str


class Color(StrEnum):
    RED = "red"


ORDER = b'{"sku":"a"}'
MSGPACK = b"\x81\xa3sku\xa1a"
CBOR = b"\xa1csku\x61a"
zstd: Any = compression.find_zstd()  # of Python itself from 3.14 on
UID = UUID("6f8b1d5a-2f0f-4b8e-9c69-8f1f4a6a6f10")


def read(kind: Any, body: bytes, label: str | None = None, encoding: str | None = None, **options: Any) -> Any:
    """What a handler of this type gets of such a message."""
    said = {"content-type": label, "content-encoding": encoding}
    form = form_of({name: value for name, value in said.items() if value is not None})
    whole = Codecs(**options).body(kind)
    return whole.decode(body) if form is None else whole.read(body, form)


TAKEN: list[tuple[Any, bytes, str | None, Any]] = [
    # text is what str travels in, in JSON or as it is, and unlabelled in either
    (str, b"Hello!", "text/plain", "Hello!"),
    (str, b'"Hello!"', "application/json", "Hello!"),
    (str, b'"Hello!"', None, "Hello!"),
    (str, b"Hello!", None, "Hello!"),
    (str, b"Hello!", "application/json", "Hello!"),
    (str, b"Hello!", "application/octet-stream", "Hello!"),
    (str, b'"quoted"', "text/plain", '"quoted"'),
    (str, b"7", None, "7"),
    (str, b"null", None, "null"),
    (str, b"", "text/plain", ""),
    (str, "größer".encode(), "text/plain; charset=UTF-8", "größer"),
    (str, "größer".encode("latin-1"), "Text/Plain;charset=ISO-8859-1", "größer"),
    (str, "größer".encode("utf-16"), 'text/plain; format=flowed; charset="utf-16"', "größer"),
    (str, "größer".encode("cp1252"), "text/plain; charset=windows-1252", "größer"),
    (str, "größer".encode("utf-8-sig"), "text/plain; charset=utf-8-sig", "größer"),
    (str, "größer".encode(), "text/plain; charset=nonsense", "größer"),
    (str, b"<a/>", "text/xml", "<a/>"),
    (str, b"<a/>", "application/xml", "<a/>"),
    (str | None, b"hey", "text/plain", "hey"),
    (str | None, b"hey", None, "hey"),
    (str | None, b"null", None, None),
    (str | None, b"", None, None),
    (Annotated[str, Field(max_length=3)], b"hey", None, "hey"),
    (Literal["a", "b"], b"b", "text/plain", "b"),
    (Color, b"red", None, Color.RED),
    (Color, b"red", "text/plain", Color.RED),
    (UUID, str(UID).encode(), "text/plain", UID),
    (datetime, b"2026-11-30T12:00:00Z", "text/plain", datetime(2026, 11, 30, 12, tzinfo=UTC)),
    (int, b"7", "text/plain", 7),
    (float, b"1.5", "text/plain", 1.5),
    (bool, b"true", "text/plain", True),
    (Any, b"hey", "text/plain", "hey"),
    (list[int], b"[1,2]", "text/plain", [1, 2]),
    # any +json is JSON, and so are its other names
    (Order, ORDER, "application/vnd.acme.order+json", Order(sku="a")),
    (Order, ORDER, "Application/GEO+JSON; charset=utf-8; profile=x", Order(sku="a")),
    (Order, ORDER, "text/json", Order(sku="a")),
    (Order, ORDER.decode().encode("utf-16"), "application/json; charset=utf-16", Order(sku="a")),
    (Order, b"\xef\xbb\xbf" + ORDER, "application/json", Order(sku="a")),
    (Order, b"\xef\xbb\xbf" + ORDER, None, Order(sku="a")),
    (Order, MSGPACK, "application/vnd.acme+msgpack", Order(sku="a")),
    (Order, MSGPACK, "application/x-msgpack", Order(sku="a")),
    (Order, CBOR, "application/senml+cbor", Order(sku="a")),
    (Int64Value, b"\x08\x07", "application/x-protobuf", Int64Value(value=7)),
    (Int64Value, b"\x08\x07", "application/vnd.google.protobuf; proto=Int64Value", Int64Value(value=7)),
    (Int64Value, b"\x08\x07", "application/vnd.acme+protobuf", Int64Value(value=7)),
    # a body that is valid is not thrown away for its label
    (Order, ORDER, "application/octet-stream", Order(sku="a")),
    (Order, ORDER, "text/plain", Order(sku="a")),
    (Order, ORDER, "image/png", Order(sku="a")),
    (Order, ORDER, "application/msgpack", Order(sku="a")),
    (Order, ORDER, "nonsense", Order(sku="a")),
    (Order, ORDER, ";;;=", Order(sku="a")),
    (Order, ORDER, "x" * 100_000, Order(sku="a")),
    (Order, ORDER, "application/x-www-form-urlencoded", Order(sku="a")),
    (Int64Value, b"\x08\x07", "application/octet-stream", Int64Value(value=7)),
    (Int64Value, b"\x08\x07", None, Int64Value(value=7)),
    (Int64Value, b'"7"', "text/plain", Int64Value(value=7)),
    (bytes, ORDER, "application/json", ORDER),
    (bytes, b"\xff", "text/plain; charset=utf-16", b"\xff"),
    (bytes, b"\xff", "nonsense", b"\xff"),
    (None, b"", "text/plain", None),
]


@pytest.mark.parametrize(("kind", "body", "label", "value"), TAKEN)
def test_a_body_that_is_valid_for_its_type_is_taken(kind: Any, body: bytes, label: str | None, value: Any) -> None:
    assert read(kind, body, label) == value


REFUSED: list[tuple[Any, bytes, str, type[Exception], tuple[str, ...]]] = [
    (
        Order,
        b"<order/>",
        "text/xml",
        UnsupportedMediaType,
        ("'text/xml' is not taken here", "not a valid Order"),
    ),
    (Order, b"hey", "text/plain", UnsupportedMediaType, ("content type 'text/plain' is not taken", "Invalid JSON")),
    (Order, b"{}", "image/png", UnsupportedMediaType, ("'image/png' is not taken", "sku: Field required")),
    (Order, b"{}", "application/msgpack", DecodeError, ("no MessagePack", "as it is not a valid Order")),
    (Int64Value, b"\x89PNG", "image/png", UnsupportedMediaType, ("'image/png'", "protobuf's format")),
    (Int64Value, b"", "image/png", UnsupportedMediaType, ("'image/png'",)),
    (int, b"seven", "text/plain", UnsupportedMediaType, ("not a valid int",)),
    (str, b"\xff\xfe\x00", "application/json", DecodeError, ("not a valid",)),
    (str, b"\xff", "text/plain", DecodeError, ("not a valid text in UTF-8",)),
    (str, b"\xff", "text/plain; charset=utf-16", DecodeError, ("not a valid text in utf_16",)),
    (str, b"", "application/json", DecodeError, ("not a valid str",)),
]


@pytest.mark.parametrize(("kind", "body", "label", "error", "words"), REFUSED)
def test_what_is_valid_neither_way_is_refused_with_both_reasons(
    kind: Any, body: bytes, label: str, error: type[Exception], words: tuple[str, ...]
) -> None:
    with pytest.raises(error) as caught:
        read(kind, body, label)
    errors = getattr(caught.value, "errors", [])
    assert all(word in f"{caught.value} {errors}" for word in words), str(caught.value)
    assert len(str(caught.value)) < 500


NO_CHARSETS = ["idna", "punycode", "unicode_escape", "zlib", "hex", "rot13", "mbcs", "x" * 39, "ä", ""]


@pytest.mark.parametrize("name", NO_CHARSETS)
def test_what_is_no_charset_is_none(name: str) -> None:
    assert known_charset(name) is None
    assert charset_of(f"text/plain; charset={name}") is None
    assert content_type({"content-type": f"text/plain; charset={name}"}) == "text/plain"


def test_what_stands_beside_the_charsets_of_python_and_is_none_hinders_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As `_win_cp_codecs` of Python 3.14 does."""
    (tmp_path / "_shared_by_some.py").write_text("")
    monkeypatch.setattr(encodings, "__path__", [*encodings.__path__, str(tmp_path)])
    found = charsets._modules.__wrapped__()
    assert {"latin_1", "utf_16", "cp1252"} <= found
    assert found.isdisjoint({"_shared_by_some", "aliases", "hex_codec"})


def test_a_peer_that_makes_up_charsets_fills_no_memory() -> None:
    import encodings

    before = len(encodings._cache)  # type: ignore[attr-defined]
    for number in range(500):
        content_type({"Content-Type": f"text/plain; charset=made-up-{number}"})
    assert len(encodings._cache) - before < 200  # type: ignore[attr-defined]
    before = len(encodings._cache)  # type: ignore[attr-defined]
    for number in range(500):
        content_type({"Content-Type": f"text/plain; charset=more-of-them-{number}"})
    assert len(encodings._cache) == before  # type: ignore[attr-defined]


def test_a_content_type_with_json_behind_its_plus_is_written_as_json_and_named_so() -> None:
    codecs = Codecs()
    body = codecs.body_as(Order, "application/vnd.acme.order+json", None)
    headers: dict[str, str] = {}
    assert body.pack(Order(sku="a"), headers) == ORDER
    assert headers == {"Content-Type": "application/vnd.acme.order+json"}
    assert (body.content_type, body.announced) == ("application/vnd.acme.order+json", True)
    headers = codecs.naming("application/geo+json", None)
    assert codecs.body(Order).pack(Order(sku="a"), headers) == ORDER
    assert headers == {"Content-Type": "application/geo+json"}


def pack(body: bytes, *encodings: str) -> bytes:
    raw = zlib.compressobj(wbits=-15)
    for encoding in encodings:
        match encoding:
            case "gzip" | "x-gzip":
                body = gzip.compress(body, mtime=0)
            case "deflate":
                body = zlib.compress(body)
            case "raw deflate":
                body = raw.compress(body) + raw.flush()
            case "zstd":
                body = zstd.compress(body)
    return body


ENCODED: list[tuple[str, bytes]] = [
    ("gzip", pack(ORDER, "gzip")),
    ("X-GZIP", pack(ORDER, "gzip")),
    ("zstd", pack(ORDER, "zstd")),
    ("deflate", pack(ORDER, "deflate")),
    ("deflate", pack(ORDER, "raw deflate")),
    ("identity", ORDER),
    ("", ORDER),
    ("gzip, identity", pack(ORDER, "gzip")),
    ("gzip, zstd", pack(ORDER, "gzip", "zstd")),
    ("gzip,gzip ,deflate", pack(ORDER, "gzip", "gzip", "deflate")),
    # what kombu says of a text
    ("utf-8", ORDER),
    ("binary", ORDER),
    ("us-ascii", ORDER),
    # labelled as compressed, and not
    ("gzip", ORDER),
    ("br", ORDER),
    ("aes128gcm", ORDER),
    ("gzip, gzip", ORDER),
    (", ".join(["gzip"] * 9), ORDER),
]


@pytest.mark.parametrize(("encoding", "body"), ENCODED)
@pytest.mark.parametrize("label", [None, "application/json", "text/plain", "application/geo+json"])
def test_encodings_are_undone(encoding: str, body: bytes, label: str | None) -> None:
    assert read(Order, body, label, encoding) == Order(sku="a")


def test_what_is_not_compressed_as_its_label_says_reaches_bytes_and_text_as_it_is() -> None:
    assert read(bytes, b"\x00\x01", None, "gzip") == b"\x00\x01"
    assert read(bytes, b"\x00\x01", "image/png", "br") == b"\x00\x01"
    assert read(str, b"Hello!", "text/plain", "gzip") == "Hello!"
    assert read(str, b'"Hello!"', None, "br") == "Hello!"


@pytest.mark.parametrize("label", [None, "text/plain", "application/json", "image/png"])
def test_bytes_of_an_unknown_form_are_no_text_by_chance(label: str | None) -> None:
    with pytest.raises(UnsupportedMediaType, match="content encoding 'br' is not taken here"):
        read(str, b"\x0b\x02\x80hey\x03"[:2] + b"\x00hey", label, "br")


@pytest.mark.parametrize("encodings", ["gzip, gzip", "deflate", "gzip, zstd", "gzip, deflate"])
def test_each_of_several_encodings_is_bounded(encodings: str) -> None:
    bomb = pack(b"x" * 100_000, *(each.strip() for each in encodings.split(",")))
    with pytest.raises(ContentTooLarge):
        read(str, bomb, "text/plain", encodings, max_decompressed=10_000)


def test_more_encodings_around_one_another_than_anybody_needs_are_refused() -> None:
    with pytest.raises(UnsupportedMediaType, match="5 content encodings around one another"):
        decompress(pack(ORDER, *["gzip"] * 5), ", ".join(["gzip"] * 5), 10_000)


class FakeBrotli(types.ModuleType):
    """brotli in the form that version 1.2 has: it stands for it where it is not installed, and repeats each byte."""

    class Decompressor:
        def __init__(self) -> None:
            self.left = b""
            self.done = False

        def process(self, body: bytes, output_buffer_limit: int = 0) -> bytes:
            self.left += body.removesuffix(b"!") * 2
            self.done = self.done or body.endswith(b"!")
            some, self.left = self.left[:3], self.left[3:]
            return some[:output_buffer_limit]

        def can_accept_more_data(self) -> bool:
            return not self.left

        def is_finished(self) -> bool:
            return self.done and not self.left


def test_brotli_is_read_where_it_is_installed_and_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "brotli", FakeBrotli("brotli"))
    monkeypatch.setattr(compression, "find_brotli", compression.find_brotli.__wrapped__)
    assert decompress(b"abcde!", "br", 100) == b"abcdeabcde"
    with pytest.raises(DecodeError, match="not valid br: it ends too early"):
        decompress(b"abcde", "br", 100)
    with pytest.raises(ContentTooLarge):
        decompress(b"abcde!", "br", 7)


def test_an_unlabelled_message_is_decoded_by_the_same_function_as_ever() -> None:
    """What most messages are pays nothing for what others may be."""
    body = Codecs().body(Order)
    assert body.decode is body.decoder("application/json")


def test_labels_made_up_by_peers_are_not_kept() -> None:
    body = Codecs().body(Order)
    body.load(ORDER, "application/json")
    before = len(body._decoders)
    for number in range(100):
        form: Form = (f"application/vnd.acme.{number}+json", None, None, None)
        assert body.read(ORDER, form) == Order(sku="a")
        assert body.load(ORDER, f"made/up-{number}") == Order(sku="a")
    assert len(body._decoders) == before
    assert json.loads(ORDER) == {"sku": "a"}
