"""The bodies of a topic of CloudEvents, which are read as such where their label does not say it."""

from __future__ import annotations

from typing import Any

from eventmicro.cloudevents import STRUCTURED
from eventmicro.codecs.body import Body
from eventmicro.codecs.cloudevents import is_structured
from eventmicro.wire import Form


class EnvelopedBody(Body):
    """Reads what its topic carries. Whoever publishes it takes the body of the type.

    Args:
        body: that of the type.
    """

    __slots__ = ("_body",)

    def __init__(self, body: Body) -> None:
        self._body = body
        self.kind = body.kind
        self.frame = body.frame
        self.decode = self._decode

    def _decode(self, body: bytes) -> Any:
        return self._body.load(body, STRUCTURED) if is_structured(body) else self._body.decode(body)

    def read(self, body: bytes, form: Form) -> Any:
        if form[1] is None and is_structured(body):  # one that is compressed says what it is, as only clients do that
            return self._body.load(body, STRUCTURED)
        return self._body.read(body, form)

    def of_nothing(self) -> Any:
        return self._body.of_nothing()
