"""What an endpoint is declared to be, checked when it is written down."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, get_origin

from eventmicro.checks import check_count, check_kind, check_seconds, no_option
from eventmicro.context import Side
from eventmicro.errors import SignatureError, UsageError
from eventmicro.handlers.depends import name_of
from eventmicro.handlers.signature import MISSING, Signature, own_name, read_signature
from eventmicro.middleware import Middleware, check_middleware, check_takes_streams
from eventmicro.reply import Reply
from eventmicro.terms import ENDPOINT_CONCURRENCY
from eventmicro.wire import check_name

# What `@rpc` takes.
OPTIONS = ("name", "timeout", "concurrency", "middleware", "internal", "idempotent")


@dataclass(frozen=True, slots=True)
class EndpointDeclaration:
    """An endpoint of a service; see `Service.rpc` for the words."""

    name: str
    signature: Signature
    timeout: float | None
    concurrency: int
    middleware: tuple[Middleware, ...]
    internal: bool
    """Whether it is called by those who know it, and listed nowhere."""
    idempotent: bool
    """Whether a call may be made twice without harm."""

    @property
    def request(self) -> Any:
        """The type of its request; MISSING where the handler takes none."""
        return self.signature.takes

    @property
    def reply(self) -> Any:
        """The type of its reply."""
        return self.signature.returns

    @property
    def stream(self) -> str:
        """Which side sends a stream of these: `server`, `client` or `bidirectional`; empty: neither, it is called."""
        takes, gives = self.signature.takes_stream, self.signature.yields
        if takes and gives:
            return "bidirectional"
        return "client" if takes else "server" if gives else ""


def declare_endpoint(
    function: Callable[..., Any],
    name: str | None = None,
    timeout: float | None = None,
    concurrency: int = ENDPOINT_CONCURRENCY,
    middleware: Iterable[Middleware] = (),
    internal: bool = False,
    idempotent: bool = False,
    **unknown: object,
) -> EndpointDeclaration:
    """Check an endpoint's handler and options.

    Raises:
        SignatureError: the function cannot be an endpoint.
        UsageError: an option is unknown, or out of range.
    """
    if unknown:
        raise UsageError(no_option("rpc()", unknown, OPTIONS))
    signature = read_signature(function, "endpoint", streams=True)
    if signature.returns is MISSING:
        raise SignatureError(f"endpoint {name_of(function)}: say what it returns: `-> YourModel`, or `-> None`")
    if get_origin(signature.returns) is Reply:
        raise SignatureError(
            f"endpoint {name_of(function)}: Reply is what its caller takes: return the value itself, and set metadata "
            "by `context.reply_metadata`"
        )
    check_count("concurrency", concurrency)
    check_kind("internal", internal, bool, "True or False")
    check_kind("idempotent", idempotent, bool, "True or False")
    if timeout is not None:
        check_seconds("timeout", timeout)
    around = check_middleware(middleware, Side.ENDPOINT)
    if signature.takes_stream or signature.yields:
        check_takes_streams(around, name_of(function))
    return EndpointDeclaration(
        check_name(name or own_name(function), "endpoint"),
        signature,
        timeout,
        concurrency,
        around,
        internal,
        idempotent,
    )
