"""Frames as protobuf itself reads and writes them, by the schema; and their bytes on record."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import eventmicro_schemas
import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from eventmicro.rpc.streams.frames import Frame, read_frame, write_frame

GOLDEN = json.loads((Path(__file__).parent / "golden" / "stream_frames.json").read_text())


def made(fields: dict[str, Any]) -> Frame:
    """A frame from its record."""
    items = [item.encode() for item in fields.get("items", [])]
    error = fields["error"].encode() if "error" in fields else None
    return Frame(**{**fields, "items": items, "error": error})


@pytest.fixture(scope="module")
def schema(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The class that protobuf makes of stream.proto."""
    pytest.importorskip("grpc_tools")
    path = eventmicro_schemas.path("v1/stream.proto")
    out = tmp_path_factory.mktemp("proto") / "stream.bin"
    command = [sys.executable, "-m", "grpc_tools.protoc", f"-I{path.parent}", f"--descriptor_set_out={out}", path.name]
    subprocess.run(command, check=True, timeout=60)
    pool = descriptor_pool.DescriptorPool()
    for file in descriptor_pb2.FileDescriptorSet.FromString(out.read_bytes()).file:
        pool.Add(file)  # type: ignore[no-untyped-call]
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("eventmicro.v1.StreamFrame"))


@pytest.mark.parametrize("name", GOLDEN)
def test_the_bytes_of_a_frame_are_those_on_record(name: str) -> None:
    frame = made(GOLDEN[name]["frame"])
    assert write_frame(frame).hex() == GOLDEN[name]["hex"]
    assert read_frame(bytes.fromhex(GOLDEN[name]["hex"])) == frame


@pytest.mark.parametrize("name", GOLDEN)
def test_protobuf_reads_what_is_written_here_and_the_other_way_round(name: str, schema: Any) -> None:
    frame = made(GOLDEN[name]["frame"])
    theirs = schema.FromString(write_frame(frame))
    for field in GOLDEN[name]["frame"]:
        value = getattr(theirs, field)
        assert (list(value) if field == "items" else value) == getattr(frame, field)
    assert read_frame(theirs.SerializeToString()) == frame
