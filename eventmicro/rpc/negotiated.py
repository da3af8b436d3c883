"""Negotiated: a request whose headers say how it is written, and its reply, which is written likewise.

A request without such headers, which nearly all are, comes by none of this.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from typing import Any

from eventmicro.charsets import UTF_8
from eventmicro.codec import Opened
from eventmicro.codecs import Body
from eventmicro.errors import BadRequest, DecodeError, EncodeError, NotFound, ServiceError
from eventmicro.message import Delivery
from eventmicro.wire import CONTENT_TYPE, IN_CHARSET, JSON, Form

log = logging.getLogger(__name__)

Reply = tuple[bytes, dict[str, str] | None]
"""Body and headers."""


class Negotiated:
    """One request with headers of this kind, from when it is read until its outcome is written.

    Args:
        form: what its headers say.
        request, reply: the bodies of the endpoint's types; None as request where it takes none.
        names: how an envelope may name the endpoint: `quote` and `orders.quote`.
    """

    __slots__ = (
        "_accept",
        "_charset",
        "_delivery",
        "_encoding",
        "_envelope",
        "_form",
        "_named",
        "_names",
        "_opened",
        "_plain",
        "_reply",
        "_request",
    )

    def __init__(self, delivery: Delivery, form: Form, request: Body | None, reply: Body, names: Sequence[str]) -> None:
        self._delivery = delivery
        self._form = form
        self._named, self._encoding, self._accept, _ = form
        self._request = request
        self._reply = reply
        self._names = names
        self._plain, _, self._charset = (self._named or "").partition(IN_CHARSET)
        self._envelope = (request or reply).envelope(self._plain) if self._plain else None
        self._opened: Opened | None = None

    def read(self) -> Any:
        """The request's value; None where the endpoint takes none.

        Raises:
            BadRequest: it is not of the endpoint's type, or its envelope is none of a call to this endpoint.
            UnsupportedMediaType: the endpoint's type does not travel so.
            ContentTooLarge: it becomes too large when it is decompressed.
        """
        request, content = self._request, self._delivery.body
        try:
            if self._envelope is None:
                return None if request is None else request.read(content, self._form)
            if self._encoding is not None:
                content = (request or self._reply).decompress(content, self._encoding)
            content = self._open(content)
            return None if request is None or self._named is None else request.load(content, self._named)
        except DecodeError as error:
            raise unreadable(error) from None

    def write(self, value: Any) -> Reply:
        """The reply, in the caller's content type where it can be, else in its own, which it then names."""
        reply, headers = self._reply, None
        encode = reply.answer if self._named is None else reply.encoder(self._named)
        if encode is None:
            body, headers = reply.encode(value), {CONTENT_TYPE: reply.content_type}
        else:
            body = encode(value)
            if self._charset:  # in which it is not
                headers = {CONTENT_TYPE: f"{self._plain}{IN_CHARSET}{UTF_8}"}
            if self._opened is not None and self._envelope is not None and reply.kind is not bytes:
                body = self._envelope.reply(self._opened, body)
        return (body, headers) if self._accept is None else reply.compress_for(self._accept, body, headers)

    def write_error(self, error: ServiceError, body: bytes, headers: dict[str, str]) -> Reply:
        """An error as the caller can read it; its body is JSON where it cannot be in the caller's content type."""
        if self._named is None or self._named == JSON:
            return body, headers
        try:
            told = self._write_form(error, json.loads(body))
        except EncodeError:  # it has parts that do not travel in this content type
            told = None
        except Exception:  # somebody else's codec or envelope may fail in any way
            log.exception("an error could not be written as %s, and was sent as JSON", self._named)
            told = None
        return (body, headers) if told is None else (told, {**headers, CONTENT_TYPE: self._named})

    def _write_form(self, error: ServiceError, form: dict[str, Any]) -> bytes | None:
        """The error in the caller's content type; None where nothing writes errors in that."""
        if self._envelope is not None:
            return self._envelope.error(self._opened or Opened(), error, form)
        encode = self._reply.of(dict[str, Any]).encoder(self._named or JSON)
        return None if encode is None else encode(form)

    def _open(self, body: bytes) -> bytes:
        """The message out of its envelope.

        Raises:
            BadRequest: the envelope is none, or awaits no answer while the caller does.
            NotFound: it names another method.
        """
        assert self._envelope is not None
        opened = self._opened = self._envelope.open_request(body)
        if opened.wrong is None and opened.method not in self._names:
            opened.wrong = NotFound(f"the method {opened.method[:100]!r} is not what is called here: {self._names[-1]}")
        if opened.wrong is None and opened.id is None and self._delivery.reply:
            opened.wrong = BadRequest("a call without an id is answered by nothing: send an id, or no reply subject")
        if opened.wrong is not None:
            raise opened.wrong
        return opened.body


def unreadable(error: DecodeError) -> BadRequest:
    """What a caller is told of a request that cannot be decoded."""
    return BadRequest(f"the request is {error}", errors=error.errors)
