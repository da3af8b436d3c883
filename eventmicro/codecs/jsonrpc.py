"""JSON-RPC, 2.0 and 1.0, around the JSON of a call: https://www.jsonrpc.org/specification.

A request is answered in its own version. One of ours is right in both: `params` is a list with the message in it. The
message within is cut out as it stands, so nothing of it is lost on a way through Python's own numbers.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from eventmicro.codec import Opened
from eventmicro.codecs.members import items_of, members_of
from eventmicro.errors import BadRequest, DecodeError, ServiceError
from eventmicro.wire import JSON, JSON_RPC

PARSE_ERROR, INVALID_REQUEST, METHOD_NOT_FOUND, INVALID_PARAMS, INTERNAL_ERROR = -32700, -32600, -32601, -32602, -32603
# The code of JSON-RPC for one of HTTP's, and the other way; others are a service's own, and HTTP's here, too.
CODES = {400: INVALID_PARAMS, 500: INTERNAL_ERROR}
HTTP_CODES = {PARSE_ERROR: 400, INVALID_REQUEST: 400, METHOD_NOT_FOUND: 404, INVALID_PARAMS: 400, INTERNAL_ERROR: 500}
# The id of our requests: it is the reply subject that tells whose a reply is.
ID = "1"
VERSION = '"2.0"'

_NULL = "null"
_write = json.JSONEncoder(separators=(",", ":")).encode  # as close as results are


class JsonRpc:
    """The envelope of JSON-RPC; one call each, as NATS carries many side by side: there are no batches."""

    content_type = JSON_RPC
    inner = JSON

    def request(self, method: str, body: bytes) -> bytes:
        return f'{{"jsonrpc":"2.0","id":{ID},"method":{json.dumps(method)},"params":[{body.decode()}]}}'.encode()

    def open_request(self, envelope: bytes) -> Opened:
        try:
            members = members_of(envelope.decode())
        except (ValueError, RecursionError):
            return _wrong(Opened(token=_Version()), PARSE_ERROR, "it is no JSON object; calls are sent one by one")
        opened = Opened(id=members.get("id"), token=_Version(is_new="jsonrpc" in members))
        if opened.id is not None and opened.id[0] not in '"-0123456789n':
            opened.id = None
            return _wrong(opened, INVALID_REQUEST, "its id is no string, number or null")
        method = json.loads(members.get("method", _NULL))
        if not isinstance(method, str) or members.get("jsonrpc", VERSION) != VERSION:
            return _wrong(opened, INVALID_REQUEST, f"it has no method, or a jsonrpc that is not {VERSION}")
        opened.method = method
        try:
            opened.body = _message(members.get("params", _NULL))
        except ValueError as error:
            return _wrong(opened, INVALID_PARAMS, str(error))
        return opened

    def reply(self, request: Opened, body: bytes) -> bytes:
        return _answer(request, result=body.decode())

    def error(self, request: Opened, error: ServiceError, form: dict[str, Any]) -> bytes:
        request.token = request.token or _Version()
        if not request.token.is_new:  # go-micro and Go's own clients want a text here
            return _answer(request, error=_write(_write(form)))
        code = CODES.get(error.code, error.code)
        if error is request.wrong:
            code = request.token.code or (METHOD_NOT_FOUND if error.code == 404 else INVALID_REQUEST)
        told = {"code": code, "message": error.detail or error.status or "error", "data": form}
        return _answer(request, error=_write(told))

    def open_reply(self, envelope: bytes, endpoint: str) -> bytes:
        try:
            members = members_of(envelope.decode())
            error = json.loads(members.get("error", _NULL))
        except (ValueError, RecursionError):
            raise DecodeError("not a JSON-RPC reply: it is no JSON object") from None
        if error is not None:
            raise _received(error, endpoint)
        if "result" not in members:
            raise DecodeError("not a JSON-RPC reply: it has neither a result nor an error")
        return members["result"].encode()


@dataclass(slots=True)
class _Version:
    """Whether a request is in 2.0, and the code of what is wrong with it, if something is."""

    is_new: bool = True
    code: int = 0


def _wrong(opened: Opened, code: int, why: str) -> Opened:
    opened.token.code = code
    opened.wrong = BadRequest(f"not a JSON-RPC request: {why}")
    return opened


def _answer(request: Opened, result: str = "", error: str = "") -> bytes:
    whose = f'"id":{request.id or _NULL}'
    if not request.token.is_new:
        return f'{{{whose},"result":{result or _NULL},"error":{error or _NULL}}}'.encode()
    outcome = f'"error":{error}' if error else f'"result":{result or _NULL}'
    return f'{{"jsonrpc":{VERSION},{whose},{outcome}}}'.encode()


def _received(error: Any, endpoint: str) -> ServiceError:
    """The error of a reply: one of ours in its `data`, or in its text; or what a foreign service says of it."""
    told = error if isinstance(error, dict) else {"message": error}
    code, detail = told.get("code"), str(told.get("message") or "error")
    form = told.get("data")
    if isinstance(error, str):
        try:
            form = json.loads(error)
        except (ValueError, RecursionError):
            form = None
    if isinstance(form, dict) and isinstance(form.get("code"), int):
        code = form["code"]
    number = HTTP_CODES.get(code, code) if isinstance(code, int) else 500
    if not 0 < number < 10**8:
        number = 500
    return ServiceError.from_form(form, code=number, detail=detail, id=endpoint)


def _message(params: str) -> bytes:
    """The one message that an endpoint takes.

    Raises:
        ValueError: there are several, or it is none.
    """
    if params == _NULL:
        return b""
    if params[0] == "{":
        return params.encode()
    if params[0] != "[":
        raise ValueError("params are neither an object nor a list")
    items = items_of(params)
    if len(items) > 1:
        raise ValueError(f"params are {len(items)} values, and an endpoint takes one message: write one object")
    return items[0].encode() if items else b""
