"""The names on the wire: subjects, headers, content types. Their specification is docs/wire.md.

A body is the user's message and nothing else, a header is sent only where it carries something, and the time a call
has left travels in its reply subject, `<inbox>.<call>.<milliseconds>ms`, which costs no header at all.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from eventmicro.charsets import charset_of
from eventmicro.errors import UsageError

CONTENT_TYPE = "Content-Type"
JSON = "application/json"
PROTOBUF = "application/protobuf"
OCTET_STREAM = "application/octet-stream"
MSGPACK = "application/msgpack"
CBOR = "application/cbor"
BSON = "application/bson"
TEXT = "text/plain"
# What stands between a content type and the charset that it is in, where that is not UTF-8.
IN_CHARSET = "; charset="
# With an envelope around the message of a call, as go-micro names them.
JSON_RPC = "application/json-rpc"
PROTO_RPC = "application/proto-rpc"
BSON_RPC = "application/bson-rpc"

# How a large body is compressed, and which compressions the reply to a call may have.
CONTENT_ENCODING = "Content-Encoding"
ACCEPT_ENCODING = "Accept-Encoding"

# Where the body of a message is that is too large for it: at who has it, in pieces, or in an object store; and how
# large a reply may be that its caller takes so, in bytes.
LARGE = "Large"
ACCEPT_LARGE = "Accept-Large"

# NATS Services API (ADR-32): an error reply carries both headers.
ERROR = "Nats-Service-Error"
ERROR_CODE = "Nats-Service-Error-Code"
# What a broker answers in place of a service when nobody listens: this header, no body.
STATUS = "Status"
NO_RESPONDERS = "503"
# What it answers beside a service when something stores the request: this status, and what stores it as description. No
# peer can say it: a header that came over the wire does not end with a newline.
STORED = "202\n"
DESCRIPTION = "Description"

# The queue group that the instances of one service share for their endpoints (ADR-32's default).
ENDPOINT_QUEUE = "q"
MAX_ERROR_HEADER = 200

# What the opening of a stream says of the side that opens it; without this header it comes from a plain client.
STREAM = "Stream"

# The longest name of a service, and the longest id of a node, in characters.
MAX_NAME = 128
# How much of a content type is looked at, in characters.
MAX_CONTENT_TYPE = 200

# What a dead letter says of itself: why it was given up, after how many attempts, from which subject and queue.
DEAD_REASON = "Dead-Letter-Reason"
DEAD_ATTEMPTS = "Dead-Letter-Attempts"
DEAD_SUBJECT = "Dead-Letter-Subject"
DEAD_QUEUE = "Dead-Letter-Queue"
MAX_REASON = 500

# A version after semver.org: three numbers, and what may follow them.
VERSION = re.compile(
    r"(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)"
    r"(?:-((?:0|[1-9]\d*|\d*[a-zA-Z-][0-9a-zA-Z-]*)(?:\.(?:0|[1-9]\d*|\d*[a-zA-Z-][0-9a-zA-Z-]*))*))?"
    r"(?:\+([0-9a-zA-Z-]+(?:\.[0-9a-zA-Z-]+)*))?",
    re.ASCII,
)

# The headers that say how a body is written, or is to be, and where; and their lengths, by which others are soon told
# apart.
_FORMS = {name.lower(): place for place, name in enumerate((CONTENT_TYPE, CONTENT_ENCODING, ACCEPT_ENCODING, LARGE))}
_LENGTHS = frozenset(map(len, _FORMS))
_NAME = re.compile(r"[A-Za-z0-9_-]+")
_HEADER_NAME = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_PLAIN_SUBJECT = re.compile(r"[A-Za-z0-9_$-]+(?:\.[A-Za-z0-9_$-]+)*")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]+")
_SURROGATE = re.compile(r"[\ud800-\udfff]")


def check_name(name: str, what: str) -> str:
    """Return `name` if it can name a service, an endpoint or a subscriber.

    Raises:
        UsageError: it is empty or has other signs than letters, digits, `_` and `-`.
    """
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise UsageError(
            f"{what} name {name!r}: write letters of ASCII, digits, '_' and '-' only, without dots or spaces"
        )
    return name


def check_length(name: str, what: str) -> str:
    """Return a name that is not too long for a registry.

    Raises:
        UsageError: it is.
    """
    if len(name) > MAX_NAME:
        raise UsageError(f"{what} {name[:20]!r}… has {len(name)} characters: write {MAX_NAME} at most")
    return name


def check_version(version: str) -> str:
    """Return `version` if it is one after semver.org.

    Raises:
        UsageError: it is none.
    """
    if not isinstance(version, str) or not VERSION.fullmatch(version):
        raise UsageError(f"version={version!r}: write '1.0.0', three numbers, perhaps with '-rc.1' behind them")
    return version


def check_metadata(metadata: Mapping[str, str]) -> dict[str, str]:
    """A copy of the labels of a service.

    Raises:
        UsageError: it is no dict of strings.
    """
    if not isinstance(metadata, Mapping) or not all(isinstance(x, str) for pair in metadata.items() for x in pair):
        raise UsageError(f"metadata={metadata!r}: write a dict of strings, {{'team': 'shop'}}")
    for name, value in metadata.items():
        check_text(name + value, f"metadata {name!r}")
    return dict(metadata)


def has_wildcards(subject: str) -> bool:
    """Whether it stands for several subjects."""
    return "*" in subject or ">" in subject


def check_subject(subject: str, *, wildcards: bool = False, option: str = "") -> str:
    """Return `subject` if it is one: tokens with dots between; with `wildcards` also `*` and a last `>`.

    Args:
        subject: what to check.
        wildcards: whether it may have some.
        option: the option whose value it is, for errors; default: none, it is a subject as such.

    Raises:
        UsageError: a token is empty, has a space, a control sign or half a surrogate pair, or a wildcard stands where
            none may.
    """
    if isinstance(subject, str) and _PLAIN_SUBJECT.fullmatch(subject):  # nearly all are: that is soon told
        return subject
    what = f"{option}={subject!r}" if option else f"subject {subject!r}"
    if isinstance(subject, str):
        check_text(subject, what)
    tokens = subject.split(".") if isinstance(subject, str) else [""]
    for position, token in enumerate(tokens):
        if not token or " " in token or _CONTROL.search(token):
            raise UsageError(f"{what}: write tokens with dots between, such as 'orders.placed'")
        if has_wildcards(token):
            whole = token == "*" or (token == ">" and position == len(tokens) - 1)
            if not wildcards:
                exact = "write an exact one" if option else "publish to one exact subject"
                raise UsageError(f"{what}: wildcards are for subscribing; {exact}")
            if not whole:
                raise UsageError(f"{what}: '*' stands for one whole token, '>' for the rest, at the end")
    return subject


def is_subject(text: str) -> bool:
    """Whether a text that others have written is an exact subject."""
    try:
        return bool(check_subject(text))
    except UsageError:
        return False


_NODE = "$node."


def endpoint_subject(service: str, endpoint: str) -> str:
    """Where the instances of a service are called: `orders.quote`."""
    return f"{service}.{endpoint}"


def node_subject(service: str, id: str) -> str:
    """The subject below which one node alone is called: `orders.$node.4711`."""
    return f"{service}.{_NODE}{id}"


def names_node(endpoint: str) -> bool:
    """Whether the name of an endpoint, without its service, is that of one at a node: `$node.4711.quote`."""
    return endpoint.startswith(_NODE)


def cancel_subject(service: str) -> str:
    """Where a caller that no longer waits says so, with the reply subject of its call as the body."""
    return f"{service}.$cancel"


def stream_subject(service: str, secret: str) -> str:
    """Where one node takes the frames of its streams; `secret` is what no other node, nor the same one before, has."""
    return f"{service}.$stream.{secret}"


def with_budget(call: str, seconds: float) -> str:
    """The reply subject of a call that has `seconds` left."""
    return call + budget(seconds)


def budget(seconds: float) -> str:
    """How a reply subject ends that says how many are left."""
    return f".{int(seconds * 1000) or 1}ms"


def budget_of(reply: str) -> float | None:
    """The seconds that a caller still waits, by its reply subject; None where a foreign client says nothing of it."""
    if reply[-2:] != "ms":
        return None
    digits = reply[reply.rfind(".") + 1 : -2]
    return int(digits) / 1000 if digits.isdecimal() and len(digits) < 12 else None


def check_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """A copy of `headers`, for sending.

    Raises:
        UsageError: it is no dict, a name is not a token of printable ASCII, a value is no string, or has a line break
            or half a surrogate pair.
    """
    try:
        items = headers.items()
    except AttributeError:
        raise UsageError(f"metadata={headers!r}: write a dict of strings, {{'tenant': 'acme'}}") from None
    for name, value in items:
        if not isinstance(name, str) or not _is_header_name(name):
            raise UsageError(f"metadata name {name!r}: write letters, digits and '-', without spaces or colons")
        if not isinstance(value, str):
            raise UsageError(f"metadata {name!r} is a {type(value).__name__}: values are strings")
        if "\n" in value or "\r" in value:
            raise UsageError(f"metadata {name!r} has a line break: values are single lines")
        if not value.isascii():
            check_text(value, f"metadata {name!r}")
    return dict(headers)


@lru_cache(1000)
def _is_header_name(name: str) -> bool:
    return _HEADER_NAME.fullmatch(name) is not None


def check_text(text: str, what: str) -> str:
    """Return `text` if it can travel.

    Raises:
        UsageError: it has half of a surrogate pair, as text has that was read with `errors="surrogateescape"`.
    """
    if not text.isascii() and _SURROGATE.search(text) is not None:
        raise UsageError(f"{what}: half of a surrogate pair cannot be sent: encode the text otherwise first")
    return text


def header(headers: Mapping[str, str] | None, name: str) -> str | None:
    """The value of a header, whatever the case in which a foreign client wrote its name."""
    if not headers:
        return None
    value = headers.get(name)
    if value is None:
        length, wanted = len(name), name.lower()
        for other in headers:
            if len(other) == length and other.lower() == wanted:
                return headers[other]
    return value


def content_type(headers: Mapping[str, str] | None) -> str | None:
    """The content type a message names, as `media_type` has it; None where it names none."""
    value = header(headers, CONTENT_TYPE)
    return media_type(value[:MAX_CONTENT_TYPE]) if value else None


@lru_cache(1000)
def media_type(label: str) -> str:
    """A content type in lower case and without its parameters, but for the charset of a text that is not UTF-8."""
    media = label.partition(";")[0].strip().lower()
    charset = charset_of(label) if ";" in label and (media[:5] == "text/" or "json" in media) else None
    return media if charset is None else f"{media}{IN_CHARSET}{charset}"


Form = tuple[str | None, str | None, str | None, str | None]
"""What a message says of how it is written: its content type and encoding; which encodings its reply may have; and
where its body is, if it is too large for the message."""


def form_of(headers: Mapping[str, str]) -> Form | None:
    """How a message is written, and its reply may be, as its headers say; None where they say nothing of that."""
    said: list[str | None] | None = None
    for name in headers:
        if len(name) in _LENGTHS and (place := _FORMS.get(name.lower())) is not None:
            said = said or [None, None, None, None]
            said[place] = headers[name]
    if said is None:
        return None
    named = said[0]
    return media_type(named[:MAX_CONTENT_TYPE]) if named else None, said[1], said[2], said[3]


def read_object(text: str | bytes, longest: int) -> dict[str, Any] | None:
    """A JSON object that somebody has sent; None where it is none, or longer than this, in characters or bytes."""
    try:
        value = json.loads(text) if len(text) <= longest else None
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def without(headers: dict[str, str], name: str) -> None:
    """Take a header out, whatever the case in which its name is written."""
    wanted = name.lower()
    for other in [each for each in headers if each.lower() == wanted]:
        del headers[other]


# What stands in the header of an error that has no detail.
_NO_DETAIL = "error"


def detail_of(text: str) -> str:
    """What the header of an error says; empty where it stands there only to be one."""
    return "" if text == _NO_DETAIL else text


def error_headers(code: int, detail: str) -> dict[str, str]:
    """The two headers that mark a reply as an error: one line of ASCII, never empty, never long."""
    return {ERROR: header_line(detail, MAX_ERROR_HEADER) or _NO_DETAIL, ERROR_CODE: str(code)}


def one_line(text: str, longest: int = 1000) -> str:
    """A text of a peer's as it may stand in a line of a log: what would begin another line, move a terminal's cursor or
    turn letters round is written as an escape, such as `\\n` or `\\x1b`, and what is too long is cut.
    """
    if len(text) > longest:
        text = f"{text[:longest]}…"
    return text if text.isprintable() else "".join(sign if sign.isprintable() else _escape(sign) for sign in text)


def _escape(sign: str) -> str:
    return sign.encode("unicode_escape").decode("ascii")


def header_line(text: str, longest: int) -> str:
    """Any text as a header's value: one line of ASCII, not longer than this."""
    return _CONTROL.sub(" ", text).encode("ascii", "replace").decode()[:longest].strip()
