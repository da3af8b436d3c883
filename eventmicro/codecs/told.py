"""The bodies of events of several types, of which a header says of which one each is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from eventmicro.codecs.body import Body
from eventmicro.errors import DecodeError
from eventmicro.kinds import TypeHeader
from eventmicro.message import Delivery
from eventmicro.wire import Form


class Told(bytes):
    """A body of which it is told what it is."""

    name: str


class ToldBody(Body):
    """Reads events of several types, each as a value of its own. Whoever publishes them takes the body of their type.

    Args:
        kind: all of them.
        told_by: the header, with the name of each.
        find: the body of one type.
    """

    __slots__ = ("_bodies", "_told_by")

    def __init__(self, kind: Any, told_by: TypeHeader, find: Callable[[Any], Body]) -> None:
        self.kind = kind
        self._told_by = told_by
        self._bodies: Mapping[str, Body] = {name: find(each) for name, each in told_by.names.items()}
        self.frame = self._frame
        self.decode = self._decode

    def _frame(self, delivery: Delivery) -> bytes:
        told = Told(delivery.body)
        told.name = self._told_by.read(delivery.headers)
        return told

    def _decode(self, body: bytes) -> Any:
        return self._of(body).decode(bytes(body))

    def read(self, body: bytes, form: Form) -> Any:
        return self._of(body).read(bytes(body), form)

    def of_nothing(self) -> Any:
        raise DecodeError(f"a tombstone, it has no value, and {self._told_by.words} are taken here")

    def _of(self, body: bytes) -> Body:
        """The body of its type.

        Raises:
            DecodeError: it has come without headers.
        """
        return self._bodies[body.name if isinstance(body, Told) else self._told_by.read(None)]
