"""How a request is written that says in its headers how: in which content type, in which envelope, compressed."""

from __future__ import annotations

from typing import Any

from eventmicro.codec import Decoder
from eventmicro.codecs import Body
from eventmicro.compression import accepted
from eventmicro.wire import ACCEPT_ENCODING, CONTENT_TYPE, content_type, node_subject

Packed = tuple[bytes, Decoder, dict[str, str]]
"""The body, what decodes a reply that names no content type, and the headers."""


def pack_request(
    service: str, subject: str, body: Body, request: Any, headers: dict[str, str] | None, reply: Body
) -> Packed:
    """Write a request, with headers of its own: those that are given may serve for another try.

    Args:
        subject: where it goes: to the endpoint, or to that of a chosen node.

    Raises:
        EncodeError, UsageError: as of `Body.pack`.
    """
    sent = dict(headers) if headers else {}
    packed = body.pack(request, sent, method_of(service, subject) if "$" in subject else subject)
    if reply.names is not None and not packed and reply.envelope(reply.names) is None:
        sent.setdefault(CONTENT_TYPE, reply.names)  # the reply comes in the request's content type
    if body.compression is not None:
        sent.setdefault(ACCEPT_ENCODING, accepted())
    return packed, reply.asked_decoder(content_type(sent), subject), sent


def method_of(service: str, subject: str) -> str:
    """What an envelope calls an endpoint: `orders.quote`, also where the call goes to one node of the service."""
    if not subject.startswith(node_subject(service, "")):
        return subject
    return f"{service}.{subject.rpartition('.')[2]}"
