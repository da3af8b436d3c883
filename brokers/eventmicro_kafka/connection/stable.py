"""Stable: asks what is committed, and is told to wait while that depends on a transaction which has not ended.

aiokafka's own knows no version that does: it gets what was committed before, and whoever begins there handles again
what the transaction then says is done.
"""

from __future__ import annotations

from typing import Any

from aiokafka.protocol.api import RequestStruct, Response  # type: ignore[import-untyped]
from aiokafka.protocol.commit import OffsetFetchRequest  # type: ignore[import-untyped]
from aiokafka.protocol.types import (  # type: ignore[import-untyped]
    Boolean,
    CompactArray,
    CompactString,
    Int16,
    Int32,
    Int64,
    Schema,
    TaggedFields,
)

# aiokafka's own, whose types say less than they do.
_AnyResponse: Any = Response
_AnyRequest: Any = OffsetFetchRequest


class _Response(_AnyResponse):  # type: ignore[misc]
    API_KEY = 9
    API_VERSION = 7
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        (
            "topics",
            CompactArray(
                ("topic", CompactString("utf-8")),
                (
                    "partitions",
                    CompactArray(
                        ("partition", Int32),
                        ("offset", Int64),
                        ("leader_epoch", Int32),
                        ("metadata", CompactString("utf-8")),
                        ("error_code", Int16),
                        ("tags", TaggedFields),
                    ),
                ),
                ("tags", TaggedFields),
            ),
        ),
        ("error_code", Int16),
        ("tags", TaggedFields),
    )


class _Request(RequestStruct):  # type: ignore[misc]
    API_KEY = 9
    API_VERSION = 7
    FLEXIBLE_VERSION = True
    RESPONSE_TYPE = _Response
    SCHEMA = Schema(
        ("consumer_group", CompactString("utf-8")),
        (
            "topics",
            CompactArray(
                ("topic", CompactString("utf-8")), ("partitions", CompactArray(Int32)), ("tags", TaggedFields)
            ),
        ),
        ("require_stable", Boolean),
        ("tags", TaggedFields),
    )


class AskStable(_AnyRequest):  # type: ignore[misc]
    """Asks for the places of a group; of a broker before 2.5, which cannot wait, it is aiokafka's own."""

    def build(self, version: Any) -> Any:
        if version is not _Request:
            return super().build(version)
        topics = [(topic, partitions, dict[int, bytes]()) for topic, partitions in self._partitions]
        return version(self._consumer_group, topics, True, {})


AskStable._CLASSES = (*OffsetFetchRequest._CLASSES, _Request)


def read_places(answer: Any) -> list[tuple[str, int, int, str | None, int]]:
    """What was answered, of any version: topic, partition, offset, metadata and error of each place."""
    if answer.API_VERSION < _Response.API_VERSION:
        return [(topic, *entry) for topic, entries in answer.topics for entry in entries]
    return [
        (topic, number, offset, metadata, code)
        for topic, entries, _ in answer.topics
        for number, offset, _, metadata, code, _ in entries
    ]
