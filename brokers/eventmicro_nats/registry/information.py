"""What services say of themselves on `$SRV.INFO` (ADR-32): records of ours, and what can be read of foreign ones."""

from __future__ import annotations

import json
from typing import Any

from eventmicro.registry import FOREIGN, QUEUE, SUBJECT, EndpointRecord, NodeRecord, ServiceRecord
from eventmicro.roster import Reader

INFO = "$SRV.INFO"
# Who knows this type adds the key RECORD, the record of its node.
ACCEPT = {"Accept": "application/vnd.eventmicro.record+json"}
RECORD = "record"


def read_information(body: bytes, reader: Reader) -> ServiceRecord | None:
    """The record of the node that answers; None where it is no answer."""
    try:
        answer = json.loads(body)
    except (ValueError, RecursionError):
        return None
    if not isinstance(answer, dict):
        return None
    if RECORD in answer:
        return reader.read(INFO, json.dumps(answer[RECORD]))
    return _foreign(answer)


def _foreign(answer: dict[str, Any]) -> ServiceRecord | None:
    try:
        if not (answer["name"] and answer["id"]):
            return None
        return ServiceRecord(
            name=answer["name"],
            version=str(answer.get("version") or ""),
            metadata=_texts(answer.get("metadata")),
            endpoints=[_endpoint(each) for each in answer.get("endpoints") or ()],
            nodes=[NodeRecord(id=answer["id"], metadata={FOREIGN: "true"})],
        )
    except (ValueError, LookupError, TypeError, AttributeError):  # pydantic's is a ValueError
        return None


def _endpoint(answer: dict[str, Any]) -> EndpointRecord:
    metadata = _texts(answer.get("metadata")) | {SUBJECT: str(answer["subject"])}
    if queue := answer.get("queue_group"):
        metadata[QUEUE] = str(queue)
    return EndpointRecord(name=answer["name"], metadata=metadata)


def _texts(metadata: dict[str, Any] | None) -> dict[str, str]:
    return {str(name): str(value) for name, value in (metadata or {}).items()}
