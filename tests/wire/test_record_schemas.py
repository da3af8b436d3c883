"""Records and health in all their forms: pydantic model, JSON Schema and protobuf message say the same."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import eventmicro_schemas
import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, json_format, message_factory
from grpc_tools import protoc

from eventmicro.discovery.health import CheckResult, Health
from eventmicro.registry import EndpointRecord, NodeRecord, ServiceRecord

RECORD = ServiceRecord(
    name="orders",
    version="1.2.3",
    metadata={"team": "shop"},
    endpoints=[
        EndpointRecord(name="quote", request={"type": "object"}, reply={"type": "string"}, metadata={"a": "b"}),
        EndpointRecord(name="bill", metadata={"subscriber": "true", "topic": "orders.placed", "queue": ""}),
    ],
    nodes=[NodeRecord(id="1", address="orders.$node.1", metadata={"zone": "eu"})],
)
HEALTH = Health(
    status="degraded",
    live=True,
    ready=True,
    service="orders",
    version="1.2.3",
    node="1",
    uptime=1.5,
    checks=[CheckResult(name="disk", ok=False, critical=False, detail="full", seconds=0.25)],
)


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> descriptor_pool.DescriptorPool:
    """Both files as protoc reads them."""
    folder = eventmicro_schemas.path("v1/registry.proto").parent
    out = tmp_path_factory.mktemp("proto") / "set.pb"
    include = Path(sys.modules["grpc_tools"].__file__ or "").parent / "_proto"
    arguments = ["protoc", f"-I{folder}", f"-I{include}", "--include_imports", f"--descriptor_set_out={out}"]
    assert protoc.main([*arguments, "registry.proto", "health.proto"]) == 0
    pool = descriptor_pool.DescriptorPool()
    for file in descriptor_pb2.FileDescriptorSet.FromString(out.read_bytes()).file:
        pool.Add(file)
    return pool


@pytest.mark.parametrize(
    ("name", "model"), [("ServiceRecord", RECORD), ("HealthReport", HEALTH)], ids=["record", "health"]
)
def test_the_protobuf_message_says_all_that_the_model_says(
    pool: descriptor_pool.DescriptorPool, name: str, model: Any
) -> None:
    kind = message_factory.GetMessageClass(pool.FindMessageTypeByName(f"eventmicro.v1.{name}"))
    message = json_format.Parse(model.model_dump_json(exclude_none=True), kind())
    form = json_format.MessageToDict(
        message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )
    assert type(model).model_validate(form) == model


@pytest.mark.parametrize(("file", "model"), [("service_record", RECORD), ("health", HEALTH)], ids=["record", "health"])
def test_the_json_schema_names_every_field(file: str, model: Any) -> None:
    schema = json.loads(eventmicro_schemas.text(f"v1/{file}.schema.json"))
    assert set(schema["properties"]) == set(model.model_dump())
    assert schema["additionalProperties"] is True if file == "service_record" else "additionalProperties" not in schema
