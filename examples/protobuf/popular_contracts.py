"""The contracts of protobuf/popular.proto, written by protoc-gen-eventmicro: do not edit."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Protocol

from eventmicro import Contract, rpc
from protobuf import popular_pb2


class Popular(Contract, Protocol, service="charts"):
    """Counts what is looked at, and ranks it."""

    @rpc(timeout=2.0, idempotent=True)
    async def top(self, request: popular_pb2.TopRequest) -> popular_pb2.TopReply:
        """What was looked at most, the first one first."""
        ...

    async def count(self, requests: AsyncIterator[popular_pb2.View]) -> popular_pb2.Counted:
        """Views, as many as there are; how many were counted."""
        ...

    def follow(self, requests: AsyncIterator[popular_pb2.View]) -> AsyncIterator[popular_pb2.TopReply]:
        """The ranking after each view."""
        ...
