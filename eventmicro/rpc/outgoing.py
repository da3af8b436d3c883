"""A call on its way out: the context that middleware sees."""

from __future__ import annotations

from eventmicro.codecs import Body
from eventmicro.context import Context


class OutgoingCall(Context):
    """The context of a call, with the body of its reply."""

    __slots__ = ("body",)
    body: Body
