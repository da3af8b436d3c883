"""What comes back from a call: the reply, the error that the service answered, or nobody."""

from __future__ import annotations

import time
from functools import partial
from typing import Any

from eventmicro.codec import Decoder
from eventmicro.codecs import Body
from eventmicro.errors import (
    DecodeError,
    ServiceError,
    Unavailable,
    UnsupportedMediaType,
    describe_fields,
)
from eventmicro.message import Delivery
from eventmicro.selector import Director
from eventmicro.wire import (
    CONTENT_ENCODING,
    ERROR,
    ERROR_CODE,
    NO_RESPONDERS,
    STATUS,
    content_type,
    detail_of,
    header,
    names_node,
)


def read_reply(delivery: Delivery, endpoint: str, body: Body, decode: Decoder) -> Any:
    """The outcome of a call with headers: an error, nobody there, or a body in some content type.

    Args:
        endpoint: what was called.
        body: the body of the reply's type.
        decode: decodes what names no content type.
    """
    headers = delivery.headers
    code = header(headers, ERROR_CODE)
    if code is not None or header(headers, ERROR) is not None:
        number = int(code) if code and code.isdecimal() and len(code) < 9 else 500
        error = _error(delivery, number, detail_of(header(headers, ERROR) or ""), endpoint, body)
        error.received, error.metadata = True, headers or {}
        raise error
    if header(headers, STATUS) == NO_RESPONDERS and not delivery.body:
        raise _nobody(endpoint)
    named = content_type(headers)
    if named is not None:
        decode = body.opener(named, endpoint)
    encoding = header(headers, CONTENT_ENCODING)
    if encoding is not None:
        decode = partial(body.read_packed, encoding=encoding, decode=decode)
    reply = decode_reply(delivery.body, endpoint, body, decode)
    if body.takes_metadata:
        reply.metadata.update(headers or {})
    return reply


def _error(delivery: Delivery, code: int, detail: str, endpoint: str, body: Body) -> ServiceError:
    """The error that a service answers: its body is JSON, or in the content type that it names."""
    named = content_type(delivery.headers)
    if named is not None:
        try:
            form = body.of(dict[str, Any]).opener(named, endpoint)(delivery.body)
        except (DecodeError, UnsupportedMediaType):
            form = None
        except ServiceError as error:  # out of an envelope
            if error.code == code:
                return error
            form = {"id": error.id, "detail": error.detail, "errors": error.errors}
        if form is not None:
            return ServiceError.from_form(form, code=code, detail=detail, id=endpoint)
    return ServiceError.from_json(delivery.body, code=code, detail=detail, id=endpoint)


def _nobody(endpoint: str) -> Unavailable:
    service, _, name = endpoint.partition(".")
    if names_node(name):
        node = name.split(".")[1]
        why = f"node {node!r} of {service!r} does not answer any more, and is forgotten within its register_ttl"
    else:
        why = f"is the service {service!r} running, on this broker, and is the endpoint's name {name!r} right?"
    error = Unavailable(f"nobody serves {endpoint}: {why}", id=endpoint)
    error.nobody = error.received = True
    return error


def is_nobody(error: BaseException) -> bool:
    """Whether nobody has taken the call, so that it has surely not run."""
    return isinstance(error, Unavailable) and error.nobody


def decode_reply(reply: bytes, endpoint: str, body: Body, decode: Decoder) -> Any:
    """The reply's value.

    Raises:
        DecodeError: it is not of the type that was asked for.
        ServiceError: it is an envelope with an error.
    """
    try:
        return decode(reply)
    except ServiceError as error:
        if error.received:  # out of an envelope
            raise
        raise DecodeError(f"the reply of {endpoint}: {error.detail}", error.errors) from None
    except DecodeError as error:
        if body.kind in (None, type(None)):
            raise DecodeError(
                f"{endpoint} replied {len(reply)} bytes, but no type was given for them: "
                f"call({endpoint!r}, request, TypeOfTheReply)"
            ) from None
        fields = describe_fields(error.errors)
        raise DecodeError(f"the reply of {endpoint} is {error}{fields}", error.errors) from None


async def explain(director: Director, endpoint: str, nobody: ServiceError, deadline: float) -> str:
    """Where an endpoint is that nobody serves: another framework may have it under another subject.

    Raises:
        NotFound: its service is there, and has none of this name.
        Unavailable: nobody is there, or somebody whom calls do not reach.
    """
    elsewhere = await director.find(endpoint, deadline - time.monotonic())
    if isinstance(elsewhere, ServiceError):
        elsewhere.received = True
        raise elsewhere
    if elsewhere is None:
        raise nobody
    return elsewhere
