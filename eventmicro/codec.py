"""The codec port: how values of a type become bodies, and bodies values."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

Encoder = Callable[[Any], bytes]
"""Turns a value into a body. Raises EncodeError where the value is not of the type the encoder was made for."""

Decoder = Callable[[bytes], Any]
"""Turns a body into a value. Raises DecodeError where it is not one of the type the decoder was made for."""


@runtime_checkable
class Codec(Protocol):
    """One content type. Has no state: one object serves everybody."""

    @property
    def content_type(self) -> str:
        """The content type, in lower case and without parameters, such as `application/json`."""
        ...

    def handles(self, kind: Any) -> bool:
        """Whether values of the type `kind` can travel in this content type."""
        ...

    def encoder(self, kind: Any) -> Encoder:
        """Compile the encoder for a type it handles. Called once a type, so it may be slow; what it returns may not."""
        ...

    def decoder(self, kind: Any) -> Decoder:
        """Compile the decoder for a type it handles. Called once a type. What it returns must bear any bytes."""
        ...
