"""What comes back from a call: the reply, the error that the service answered, or nobody."""

from __future__ import annotations

from typing import Any

from eventmicro.codec import Decoder
from eventmicro.errors import DecodeError, ServiceError, Unavailable, UnsupportedMediaType, describe_fields
from eventmicro.message import Delivery
from eventmicro.rpc.outgoing import OutgoingCall
from eventmicro.wire import ERROR, ERROR_CODE, NO_RESPONDERS, STATUS, content_type, header


def read_reply(delivery: Delivery, context: OutgoingCall) -> Any:
    """The outcome of a call with headers: an error, nobody there, or a body in some content type."""
    headers = delivery.headers
    code = header(headers, ERROR_CODE)
    if code is not None or header(headers, ERROR) is not None:
        number = int(code) if code and code.isdecimal() and len(code) < 9 else 500
        raise ServiceError.from_json(delivery.body, code=number, detail=header(headers, ERROR) or "", id=context.topic)
    if header(headers, STATUS) == NO_RESPONDERS and not delivery.body:
        raise Unavailable(
            f"nobody serves {context.topic}: is the service {context.service!r} running, on this broker, "
            f"and is the endpoint's name {context.endpoint!r} right?",
            id=context.topic,
        )
    named = content_type(headers)
    try:
        if named is not None:
            decode = context.body.decoder(named)
        else:
            decode = context.body.asked_decoder(content_type(context.metadata))
    except UnsupportedMediaType as error:
        raise DecodeError(f"the reply of {context.topic}: {error.detail}") from None
    return decode_reply(context, decode, delivery.body)


def decode_reply(context: OutgoingCall, decode: Decoder, body: bytes) -> Any:
    """The reply's value.

    Raises:
        DecodeError: it is not of the type that was asked for.
    """
    try:
        return decode(body)
    except DecodeError as error:
        if context.body.kind in (None, type(None)):
            raise DecodeError(
                f"{context.topic} replied {len(body)} bytes, but no type was given for them: "
                f"call({context.topic!r}, request, TypeOfTheReply)"
            ) from None
        fields = describe_fields(error.errors)
        raise DecodeError(f"the reply of {context.topic} is {error}{fields}", error.errors) from None
