"""The contracts of protobuf/health.proto, written by protoc-gen-eventmicro: do not edit."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Protocol

from eventmicro import Contract, rpc
from protobuf import health_pb2


class Health(Contract, Protocol, service="clinic"):
    """How the parts of a service are."""

    @rpc(idempotent=True)
    async def check(self, request: health_pb2.CheckRequest) -> health_pb2.CheckReply:
        """How it is now."""
        ...

    def watch(self, request: health_pb2.CheckRequest) -> AsyncIterator[health_pb2.CheckReply]:
        """How it is now, and each time that it changes."""
        ...
