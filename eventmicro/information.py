"""Information: what a node answers on `$SRV.INFO` (ADR-32), read: the record of one of ours, and what others say."""

from __future__ import annotations

from typing import Any

from eventmicro.registry import FOREIGN, QUEUE, SUBJECT, EndpointRecord, NodeRecord, ServiceRecord
from eventmicro.wire import read_object

PREFIX = "$SRV"
INFO = "INFO"
INFO_TYPE = "io.nats.micro.v1.info_response"
# The metadata of an endpoint in which its JSON Schemas are.
REQUEST_SCHEMA = "request_schema"
REPLY_SCHEMA = "reply_schema"
# Who asks with this header gets the node's whole registry record beside what ADR-32 says, under the key RECORD.
WHOLE = {"Accept": "application/vnd.eventmicro.record+json"}
RECORD = "record"
# The longest answer that is read, in bytes: whatever a peer sends.
MAX_ANSWER = 8 * 1024 * 1024

Form = dict[str, Any]


def read_information(body: bytes) -> Form | None:
    """What a node has answered; None where it is no such answer, or too large."""
    form = read_object(body, MAX_ANSWER)
    return form if form is not None and form.get("type") == INFO_TYPE else None


def record_of(form: Form) -> ServiceRecord | None:
    """The record of the node that has answered so; None where there is none in it."""
    if RECORD not in form:
        return foreign_record(form)
    try:
        return ServiceRecord.model_validate(form[RECORD])
    except ValueError:  # pydantic's is one
        return None


def foreign_record(form: Form) -> ServiceRecord | None:
    """The same of a node of another framework, without those of its endpoints that cannot be read."""
    try:
        if not (form["name"] and form["id"]):
            return None
        return ServiceRecord(
            name=form["name"],
            version=str(form.get("version") or ""),
            metadata=_texts(form),
            endpoints=[_endpoint(each) for each in form.get("endpoints") or () if _is_endpoint(each)],
            nodes=[NodeRecord(id=form["id"], metadata={FOREIGN: "true"})],
        )
    except (ValueError, LookupError, TypeError, AttributeError):  # whatever a peer answers
        return None


def _is_endpoint(form: Any) -> bool:
    if not (isinstance(form, dict) and isinstance(form.get("metadata") or {}, dict)):
        return False
    return isinstance(form.get("name"), str) and isinstance(form.get("subject"), str)


def _endpoint(form: Form) -> EndpointRecord:
    metadata = _texts(form)
    return EndpointRecord(
        name=form["name"],
        request=read_object(metadata.pop(REQUEST_SCHEMA, ""), MAX_ANSWER),
        reply=read_object(metadata.pop(REPLY_SCHEMA, ""), MAX_ANSWER),
        metadata=metadata | {SUBJECT: form["subject"], QUEUE: str(form.get("queue_group") or "")},
    )


def _texts(form: Form) -> dict[str, str]:
    return {str(name): str(value) for name, value in (form.get("metadata") or {}).items()}
