"""The bodies of a topic of CloudEvents, which are read as such where their label does not say it."""

from __future__ import annotations

from typing import Any

from eventmicro.cloudevents import STRUCTURED, is_attribute
from eventmicro.codecs.body import Body
from eventmicro.codecs.cloudevents import is_structured
from eventmicro.message import Delivery
from eventmicro.wire import Form


class Data(bytes):
    """The data of an event whose attributes are in its headers: data that looks like an event is data all the same."""


class EnvelopedBody(Body):
    """Reads what its topic carries. Whoever publishes it takes the body of the type.

    Args:
        body: that of the type.
    """

    __slots__ = ("_body",)

    def __init__(self, body: Body) -> None:
        self._body = body
        self.kind = body.kind
        self.frame = self._frame
        self.decode = self._decode

    def _frame(self, delivery: Delivery) -> bytes:
        body = delivery.body if self._body.frame is None else self._body.frame(delivery)
        return Data(body) if any(map(is_attribute, delivery.headers or ())) else body

    def _decode(self, body: bytes) -> Any:
        if isinstance(body, Data):
            return self._body.decode(bytes(body))
        return self._body.load(body, STRUCTURED) if is_structured(body) else self._body.decode(body)

    def read(self, body: bytes, form: Form) -> Any:
        if isinstance(body, Data):
            return self._body.read(bytes(body), form)
        if form[1] is None and is_structured(body):  # one that is compressed says what it is, as only clients do that
            return self._body.load(body, STRUCTURED)
        return self._body.read(body, form)

    def of_nothing(self) -> Any:
        return self._body.of_nothing()
