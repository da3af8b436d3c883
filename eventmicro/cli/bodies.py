"""Bodies as the command line takes and shows them: JSON here; on the wire as they are, or as was asked for."""

from __future__ import annotations

import os
import stat
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from eventmicro.cli.session import current
from eventmicro.codecs import Codecs
from eventmicro.errors import EventMicroError, UsageError
from eventmicro.message import Delivery
from eventmicro.wire import CONTENT_TYPE, JSON, content_type, form_of

# What is known here of content types, for messages that name one.
KNOWN = Codecs()
# The types that a value may have of which nothing is said; some content types have documents only, or texts.
KINDS: tuple[Any, ...] = (Any, dict[str, Any], str)


def complete_content_type(incomplete: str) -> list[str]:
    """The short names of content types that begin so."""
    names = {each.partition("/")[2] for each in KNOWN.content_types()}
    return sorted(name for name in names if name.startswith(incomplete))


Body = Annotated[
    str | None,
    typer.Argument(
        metavar="BODY",
        help="JSON; default: what is piped in, or else empty. - always reads stdin, @FILE a file.",
        show_default=False,
    ),
]
Headers = Annotated[
    list[str] | None,
    typer.Option("--metadata", "-m", "--header", metavar="NAME=VALUE", help="Send metadata along; as often as needed."),
]
ContentType = Annotated[
    str | None,
    typer.Option(
        metavar="TYPE",
        help="Send the JSON in this content type, such as msgpack; what comes back in it is shown as JSON.",
        show_default=False,
        autocompletion=complete_content_type,
    ),
]


def read_headers(pairs: list[str] | None, wanted: str | None = None) -> dict[str, str]:
    """The headers to send; `wanted` is what `--content-type` says."""
    headers = {}
    for pair in pairs or ():
        name, separator, value = pair.partition("=")
        if not separator:
            raise UsageError(f"metadata {pair!r}: write NAME=VALUE")
        headers[name] = value
    if wanted is not None and (said := content_type(headers)) is not None:
        raise UsageError(f"--content-type {wanted} and --metadata {CONTENT_TYPE}={said}: leave one of them out")
    return headers


def read_request(argument: str | None, headers: dict[str, str], wanted: str | None) -> Any:
    """What to send: the body as it is, or its value where that is to travel in another content type."""
    body = read_argument(argument)
    if body.strip() and (wanted is not None or says_json(headers)):
        check_json(body)
    return body if wanted is None else value_of(body)


def says_json(headers: dict[str, str]) -> bool:
    """Whether what has these headers has to be JSON: they claim nothing else."""
    named, encoding, *_ = form_of(headers) or (None, None)
    return named in (None, JSON) and encoding is None


def expected(wanted: str | None) -> Any:
    """The type of what comes back: bytes as they are, or some value, where a content type was asked for."""
    return bytes if wanted is None else _kind_in(KNOWN.resolve(wanted))


def _kind_in(content_type: str) -> Any:
    return next((kind for kind in KINDS if KNOWN.body(kind).encoder(content_type) is not None), KINDS[0])


def value_of(body: bytes) -> Any:
    """The value of a body in JSON; None where it is empty."""
    from pydantic_core import from_json

    return from_json(body) if body.strip() else None


def as_json(item: Any) -> bytes:
    """What has come as JSON: bytes are it already, of other values those within are written in base64."""
    from pydantic_core import to_json

    return item if isinstance(item, bytes) else to_json(item, bytes_mode="base64", inf_nan_mode="strings", fallback=str)


def readable(delivery: Delivery) -> Delivery:
    """A message whose body is JSON, where its headers name a content type or a compression that is known here."""
    form = form_of(delivery.headers or {})
    if form is None or form[3] is not None:  # its body is elsewhere
        return delivery
    named, encoding, *_ = form
    kind = KNOWN.body(_kind_in(named or JSON))
    try:
        body = delivery.body if encoding is None else kind.decompress(delivery.body, encoding)
        if named not in (None, JSON):
            body = as_json(kind.decoder(named)(body))
    except EventMicroError:
        return delivery
    return Delivery(delivery.subject, body, delivery.headers)


def check_json(body: bytes, what: str = "the body") -> None:
    """Refuse what is no JSON.

    Raises:
        UsageError: it says where it is wrong, and how another form is sent.
    """
    from pydantic_core import from_json

    try:
        from_json(body, allow_inf_nan=False)
    except ValueError as error:
        raise UsageError(
            f"{what} is no JSON: {error}; a string is written '\"text\"', and for another form of body pass "
            f"--metadata Content-Type=..."
        ) from None


def is_piped() -> bool:
    """Whether something was piped in; a terminal or /dev/null is no pipe."""
    try:
        mode = os.fstat(sys.stdin.fileno()).st_mode
    except (OSError, ValueError, AttributeError):
        return False
    return stat.S_ISFIFO(mode) or stat.S_ISREG(mode)


def read_argument(argument: str | None) -> bytes:
    """The body to send, from the argument or from stdin."""
    if argument is None:
        return sys.stdin.buffer.read() if current() is None and is_piped() else b""
    if argument.startswith("@"):
        return _read_file(argument[1:])
    if argument != "-":
        return argument.encode()
    if current() is not None:
        raise UsageError("in a shell there is no stdin to read a body from: write it, or @FILE")
    if sys.stdin is None:
        raise UsageError("-: stdin is closed, and no body can be read from it: write it, or @FILE")
    return sys.stdin.buffer.read()


def _read_file(name: str) -> bytes:
    try:
        return Path(name).expanduser().read_bytes()
    except OSError as error:
        raise UsageError(f"@{name}: {error.strerror}; a body that begins with an @ is piped in, with -") from None
