"""Compressed bodies: how a sender asks for them, and how a receiver opens them without being flooded by one.

gzip is in the standard library; zstd is from Python 3.14 on, and before that in `backports.zstd`, its very code. What
others send may also be in deflate, and in brotli where that is installed.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import Any, Literal

from eventmicro.charsets import is_charset
from eventmicro.checks import check_count, names_words
from eventmicro.errors import ContentTooLarge, DecodeError, UnsupportedMediaType, UsageError

Encoding = Literal["gzip", "zstd"]
GZIP: Encoding = "gzip"
ZSTD: Encoding = "zstd"
ENCODINGS = (GZIP, ZSTD)
# What is read of others beside.
DEFLATE = "deflate"
BROTLI = "br"
ALIASES = {"x-gzip": GZIP, "x-deflate": DEFLATE, "x-zstd": ZSTD, "brotli": BROTLI}
UNCHANGED = ("identity", "binary", "7bit", "8bit", "none")
# How many encodings there may be around one another.
MAX_ENCODINGS = 4

# From how many bytes on a body is compressed where nothing else is said: smaller ones fit into few packets as they are.
THRESHOLD = 4096
# How large a body may become that a peer has compressed, in bytes.
MAX_DECOMPRESSED = 64 * 1024 * 1024
# How large a window a frame of zstd may ask for in any case, as a power of two: what every level of it may use.
LEAST_WINDOW = 23
# With what a compressed body begins.
_BEGINNINGS: dict[str, bytes] = {GZIP: b"\x1f\x8b", ZSTD: b"\x28\xb5\x2f\xfd"}
# What zlib calls the format of gzip.
_GZIP_FORMAT = 31


@names_words
@dataclass(frozen=True, slots=True)
class Compression:
    """How large bodies are compressed on their way out.

    Raises:
        UsageError: there is no such encoding, its package is missing, or the threshold is no number of bytes.
    """

    encoding: Encoding = GZIP
    """`gzip`, or `zstd`, which is faster and smaller and needs the extra `zstd` before Python 3.14."""
    threshold: int = THRESHOLD
    """From how many bytes on a body is compressed."""

    def __post_init__(self) -> None:
        if self.encoding not in ENCODINGS:
            raise UsageError(f"encoding={self.encoding!r}: there are {', '.join(ENCODINGS)}")
        check_count("threshold", self.threshold)
        if self.encoding == ZSTD:
            _zstd()

    def compress(self, body: bytes) -> bytes | None:
        """The body, smaller; None where it is to travel as it is, as it is small or does not become smaller."""
        if len(body) < self.threshold:
            return None
        smaller: bytes = zlib.compress(body, wbits=_GZIP_FORMAT) if self.encoding == GZIP else _zstd().compress(body)
        return smaller if len(smaller) < len(body) else None


def check_compression(value: Any) -> Compression | None:
    """The compression that an option asks for: by name, in full, or none.

    Raises:
        UsageError: it is something else, or its package is missing.
    """
    if isinstance(value, Compression | None):
        return value
    if isinstance(value, str):
        return Compression(value)  # type: ignore[arg-type]
    raise UsageError(f"compression={value!r}: write 'gzip', 'zstd' or Compression('zstd', threshold=4096)")


@cache
def accepted() -> str:
    """The compressions that can be read here, as `Accept-Encoding` has them."""
    return ", ".join(encoding for encoding in ENCODINGS if encoding == GZIP or find_zstd() is not None)


def accepts(accept: str | None, encoding: str) -> bool:
    """Whether an `Accept-Encoding` takes this one."""
    weights = dict(_weight(part) for part in (accept or "").lower().split(","))
    return weights.get(encoding, weights.get("*", 0.0)) > 0


def looks_compressed(body: bytes, encoding: str) -> bool:
    """Whether a body can be in this encoding; of those that are not known here any can."""
    return body.startswith(_BEGINNINGS.get(encoding.strip().lower(), b""))


def decompress(body: bytes, encodings: str, limit: int) -> bytes:
    """A body as it was before it was compressed, as its `Content-Encoding` says; several are undone from the last one.

    Args:
        limit: how large it may become, in bytes.

    Raises:
        UnsupportedMediaType: an encoding is not read here, or there are too many.
        ContentTooLarge: it is larger; no more than `limit` of it was ever made.
        DecodeError: it is not in this encoding.
    """
    applied = [name for part in encodings.split(",") if (name := part.strip().lower()) and not _leaves_as_it_is(name)]
    if len(applied) > MAX_ENCODINGS:
        raise UnsupportedMediaType(f"{len(applied)} content encodings around one another are not taken here")
    for encoding in reversed(applied):
        body = _undo(body, ALIASES.get(encoding, encoding), limit)
    return body


def _leaves_as_it_is(encoding: str) -> bool:
    """Whether this changes nothing: some clients, such as kombu, say in its place in which charset a text is."""
    return encoding in UNCHANGED or (encoding not in _BEGINNINGS and is_charset(encoding))


def _undo(body: bytes, encoding: str, limit: int) -> bytes:
    """What was compressed in one encoding; errors as of `decompress`."""
    opened = _decompressor(body, encoding, limit)
    try:
        plain: bytes = opened.decompress(body, limit + 1)
    except Exception as error:  # zlib.error, ZstdError: what they say of a body is of no use to its sender
        raise DecodeError(f"not valid {encoding}") from error
    if len(plain) > limit:
        raise _too_large(limit)
    if not opened.eof or opened.unused_data:
        raise DecodeError(
            f"not valid {encoding}: {'it ends too early' if not opened.eof else 'more follows behind it'}"
        )
    return plain


def _decompressor(body: bytes, encoding: str, limit: int) -> Any:
    """What decompresses a body."""
    if encoding == GZIP:
        return zlib.decompressobj(wbits=_GZIP_FORMAT)
    if encoding == DEFLATE:  # of zlib's form; some senders leave its head out
        has_head = len(body) > 1 and body[0] & 15 == 8 and (body[0] << 8 | body[1]) % 31 == 0
        return zlib.decompressobj(wbits=zlib.MAX_WBITS if has_head else -zlib.MAX_WBITS)
    if encoding == ZSTD and (zstd := find_zstd()) is not None:
        try:
            return _zstd_decompressor(zstd, body, limit)
        except ContentTooLarge:
            raise
        except Exception as error:  # of whichever library it is that reads Zstandard here
            raise DecodeError(f"not valid {encoding}") from error
    if encoding == BROTLI and (brotli := find_brotli()) is not None:
        return _Brotli(brotli)
    raise UnsupportedMediaType(f"content encoding {encoding[:100]!r} is not taken here; taken: {accepted()}")


class _Brotli:
    """brotli's decompressor in the form of zlib's."""

    unused_data = b""
    eof = False

    def __init__(self, brotli: Any) -> None:
        self._opened = brotli.Decompressor()

    def decompress(self, body: bytes, most: int) -> bytes:
        plain = bytearray(self._opened.process(body, output_buffer_limit=most))
        while len(plain) < most and not self._opened.can_accept_more_data():
            plain += self._opened.process(b"", output_buffer_limit=most - len(plain))
        self.eof = self._opened.is_finished()
        return bytes(plain)


@cache
def find_brotli() -> Any:
    """The module for brotli, of a version that makes no more of a body than is asked for; None where there is none."""
    try:
        brotli = import_module("brotli")
        brotli.Decompressor().process(b"", output_buffer_limit=1)
    except (ImportError, AttributeError, TypeError):
        return None
    return brotli


@cache
def find_zstd() -> Any:
    """The module for zstd; None where there is none. It is looked for once."""
    for name in ("compression.zstd", "backports.zstd"):
        try:
            return import_module(name)
        except ImportError:
            continue
    return None


def _zstd() -> Any:
    module = find_zstd()
    if module is None:
        raise UsageError("compression 'zstd' needs backports.zstd: pip install 'eventmicro[zstd]'")
    return module


def _zstd_decompressor(zstd: Any, body: bytes, limit: int) -> Any:
    """What decompresses a body, and refuses a frame that asks for much more memory than it may fill."""
    size = zstd.get_frame_info(body).decompressed_size
    if size is not None and size > limit:
        raise _too_large(limit)
    window = zstd.DecompressionParameter.window_log_max
    return zstd.ZstdDecompressor(options={window: min(max(limit.bit_length(), LEAST_WINDOW), window.bounds()[1])})


def _too_large(limit: int) -> ContentTooLarge:
    return ContentTooLarge(f"the body is over {limit} bytes when it is decompressed")


def _weight(part: str) -> tuple[str, float]:
    """An encoding, and how much it is wanted: 0 is not at all."""
    name, _, parameter = part.partition(";")
    key, _, value = parameter.partition("=")
    try:
        return name.strip(), float(value) if key.strip() == "q" else 1.0
    except ValueError:
        return name.strip(), 0.0
