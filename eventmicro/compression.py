"""Compressed bodies: how a sender asks for them, and how a receiver opens them without being flooded by one.

gzip is in the standard library; zstd is from Python 3.14 on, and before that in `backports.zstd`, its very code.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import Any, Literal

from eventmicro.checks import check_count, names_words
from eventmicro.errors import ContentTooLarge, DecodeError, UnsupportedMediaType, UsageError

Encoding = Literal["gzip", "zstd"]
GZIP: Encoding = "gzip"
ZSTD: Encoding = "zstd"
ENCODINGS = (GZIP, ZSTD)

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
    """A body as it was before it was compressed, as its `Content-Encoding` says.

    Args:
        limit: how large it may become, in bytes.

    Raises:
        UnsupportedMediaType: the encoding is not read here, or there are several, one around the other.
        ContentTooLarge: it is larger; no more than `limit` of it was ever made.
        DecodeError: it is not in this encoding.
    """
    encoding = encodings.strip().lower()
    if encoding in ("", "identity"):
        return body
    zstd = find_zstd() if encoding == ZSTD else None
    if encoding != GZIP and zstd is None:
        raise UnsupportedMediaType(f"content encoding {encodings[:100]!r} is not taken here; taken: {accepted()}")
    try:
        opened = zlib.decompressobj(wbits=_GZIP_FORMAT) if zstd is None else _zstd_decompressor(zstd, body, limit)
        plain: bytes = opened.decompress(body, limit + 1)
    except ContentTooLarge:
        raise
    except Exception as error:  # zlib.error, ZstdError: what they say of a body is of no use to its sender
        raise DecodeError(f"not valid {encoding}") from error
    if len(plain) > limit:
        raise _too_large(limit)
    if not opened.eof or opened.unused_data:
        raise DecodeError(
            f"not valid {encoding}: {'it ends too early' if not opened.eof else 'more follows behind it'}"
        )
    return plain


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
