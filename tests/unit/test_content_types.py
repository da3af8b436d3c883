"""content types: found by name, loaded when they are asked for, and named where their package is missing."""

from __future__ import annotations

import logging
import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from eventmicro import codecs as module
from eventmicro.codec import Decoder, Encoder
from eventmicro.codecs import Codecs
from eventmicro.errors import AdapterNotFound, UnsupportedMediaType, UsageError


class Item(BaseModel):
    sku: str


class Opaque:
    """Nothing pydantic knows."""

    def __init__(self, word: str) -> None:
        self.word = word


class WordCodec:
    """A codec of somebody else's, for types that only it knows."""

    content_type = "application/word"

    def handles(self, kind: Any) -> bool:
        return kind is Opaque

    def encoder(self, kind: Any) -> Encoder:
        return lambda value: value.word.encode()

    def decoder(self, kind: Any) -> Decoder:
        return lambda body: Opaque(body.decode())


def broken() -> None:
    raise RuntimeError("a bug of somebody else's")


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> Any:
    """`installed(name="module:what")`: these are installed besides ours."""

    def install(**points: str) -> Codecs:
        ours = module._installed()
        more = {
            f"application/{name}": EntryPoint(f"application/{name}", value, "eventmicro.codecs")
            for name, value in points.items()
        }
        monkeypatch.setattr(module, "_installed", lambda: ours | more)
        monkeypatch.setattr(module, "load", lambda group, name, what: (ours | more)[name].load())
        return Codecs()

    return install


NAMES = [
    ("json", "application/json"),
    ("protobuf", "application/protobuf"),
    ("msgpack", "application/msgpack"),
    (" MsgPack ", "application/msgpack"),
    ("application/cbor", "application/cbor"),
    ("application/json; charset=utf-8", "application/json"),
    ("text", "text/plain"),
    ("bytes", "application/octet-stream"),
    ("json-rpc", "application/json-rpc"),
    ("image/png", "image/png"),
]


@pytest.mark.parametrize(("name", "content_type"), NAMES)
def test_a_content_type_is_named_in_full_or_by_what_stands_behind_the_slash(name: str, content_type: str) -> None:
    assert Codecs().resolve(name) == content_type


PACKAGES = [
    ("msgpack", "msgspec", "msgspec", "msgpack"),
    ("cbor", "cbor2", "cbor2", "cbor"),
    ("bson", "bson", "pymongo", "bson"),
    ("bson-rpc", "bson", "pymongo", "bson"),
    ("proto-rpc", "google.protobuf", "protobuf", "protobuf"),
]


@pytest.mark.parametrize(("name", "package", "brings", "extra"), PACKAGES)
def test_where_a_package_is_missing_its_extra_is_named_to_who_asks_for_it(
    name: str, package: str, brings: str, extra: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    codecs, words = Codecs(), rf"application/{name} needs {brings}: pip install 'eventmicro\[{extra}\]'"
    for _ in range(2):
        with pytest.raises(AdapterNotFound, match=words):
            codecs.resolve(name)
    with pytest.raises(AdapterNotFound, match=words):
        Codecs(content_type=name)
    with pytest.raises(AdapterNotFound, match=words):
        codecs.body(Item).pack(Item(sku="a"), {"Content-Type": f"application/{name}"})
    body = Codecs().body(Item)
    for _ in range(2):
        with caplog.at_level(logging.WARNING), pytest.raises(UnsupportedMediaType) as caught:
            body.decoder(f"application/{name}")
    taken = caught.value.detail.partition("; taken: ")[2].split(", ")
    assert "application/json" in taken
    assert f"application/{name}" not in taken
    (said,) = caplog.messages
    assert said == f"a message in application/{name} could not be read: application/{name} needs {brings}: " + (
        f"pip install 'eventmicro[{extra}]'"
    )


def test_a_struct_or_an_attrs_class_without_msgspec_names_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    import attrs

    @attrs.define
    class Parcel:
        weight: float

    monkeypatch.setitem(sys.modules, "msgspec", None)
    with pytest.raises(AdapterNotFound, match=r"Parcel needs msgspec: pip install 'eventmicro\[msgpack\]'"):
        Codecs().body(Parcel)


def test_another_package_named_bson_is_told_from_pymongos(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "bson").mkdir()
    (tmp_path / "bson" / "__init__.py").write_text("def dumps(obj): ...\n")
    for name in [name for name in sys.modules if name.partition(".")[0] == "bson"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(AdapterNotFound, match="another package of the name 'bson' is in its place: pip uninstall bson"):
        Codecs().resolve("bson")


def test_somebody_elses_codec_is_found_by_its_entry_point_as_ours_are(installed: Any) -> None:
    codecs = installed(word=f"{__name__}:WordCodec")
    body = codecs.body(Opaque)
    assert (body.content_type, body.announced) == ("application/word", True)
    assert body.decode(body.encode(Opaque("hey"))).word == "hey"
    assert codecs.resolve("word") == "application/word"


def test_a_type_that_nobody_knows_is_refused_as_pydantic_says_it(installed: Any) -> None:
    with pytest.raises(UsageError, match="Other cannot be a message"):
        installed(word=f"{__name__}:WordCodec").body(type("Other", (), {}))


@pytest.mark.parametrize(
    "value", ["no_such_module:Codec", f"{__name__}:NoSuchCodec", f"{__name__}:broken", "builtins:dict"]
)
def test_one_that_cannot_be_loaded_harms_nobody_who_does_not_ask_for_it(
    value: str, installed: Any, caplog: pytest.LogCaptureFixture
) -> None:
    codecs = installed(broken=value)
    body = codecs.body(Item)
    for _ in range(3):
        with pytest.raises(UnsupportedMediaType):
            body.decoder("application/broken")
    assert (
        len([r for r in caplog.records if "a message in application/broken could not be read" in r.getMessage()]) == 1
    )
    with pytest.raises(UsageError):
        codecs.resolve("broken")
    assert body.decoder("application/msgpack")(b"\x81\xa3sku\xa1a") == Item(sku="a")


def test_the_first_of_two_with_the_same_content_type_stands() -> None:
    class Loud(WordCodec):
        content_type = "application/json"

        def handles(self, kind: Any) -> bool:
            return kind is str

        def encoder(self, kind: Any) -> Encoder:
            return lambda value: value.upper().encode()

    codecs = Codecs([Loud()])
    assert codecs.body(str).encode("hey") == b"HEY"
    assert codecs.body(int).encode(7) == b"7"


@pytest.mark.parametrize("own", [[7], [WordCodec], "text", [object()]])
def test_what_is_no_codec_is_refused(own: Any) -> None:
    with pytest.raises(UsageError, match=r"is no codec|write a list"):
        Codecs(own)


def test_a_bound_that_is_none_is_refused() -> None:
    with pytest.raises(UsageError, match="max_decompressed=0"):
        Codecs(max_decompressed=0)


LAZY = ["msgspec", "cbor2", "bson", "attrs", "google.protobuf", "backports.zstd", "zlib_ng"]


def test_nothing_is_loaded_that_nobody_asks_for() -> None:
    code = """
import asyncio, sys
from pydantic import BaseModel
from eventmicro import Client, Service
class Item(BaseModel):
    sku: str
service = Service("a", broker="memory://")
@service.rpc
async def quote(request: Item) -> Item:
    return request
async def main():
    async with service, Client("memory://") as client:
        await client.call("a.quote", Item(sku="a"), Item, metadata={"tenant": "acme"})
        await client.call("a.quote", Item(sku="a"), Item, content_type="json")
asyncio.run(main())
print(*sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert set(done.stdout.split()) & set(LAZY) == set()
