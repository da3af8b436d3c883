#!/usr/bin/env bash
# confluent-kafka 2.16.1, Avro with the schema's id in a record header (header_schema_id_serializer), where the body is the bare Avro:
# AvroSerializer writes {"name": "cups"} in 5 bytes, and AvroDeserializer refuses what it wrote, as too short to have come from
# the serializer; {"name": "mugs!"}, 6 bytes, is read. The length is looked at as if the id stood in front of the body.
# One would guess: what the serializer writes its own deserializer reads, however short; small events, counters and flags, never arrive.
# In place of the schema registry is an HTTP server that knows the one schema.
# Exits 0 while that is so, non-zero when it changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q "confluent-kafka[avro,schemaregistry]==2.16.1"
cat > "$folder/show.py" <<'PYTHON'
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import confluent_kafka
from confluent_kafka.schema_registry import SchemaRegistryClient, header_schema_id_serializer, topic_subject_name_strategy
from confluent_kafka.schema_registry.avro import AvroDeserializer, AvroSerializer
from confluent_kafka.serialization import MessageField, SerializationContext, SerializationError

SCHEMA = json.dumps({"type": "record", "name": "Thing", "fields": [{"name": "name", "type": "string"}]})
SUBJECT = {"subject.name.strategy": topic_subject_name_strategy}
GUID = "6c8f3a52-6a0e-4c0f-9a53-0b6d0c5d7b11"


class Registry(BaseHTTPRequestHandler):
    def answer(self):
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        said = json.dumps({"subject": "things-value", "version": 1, "id": 1, "guid": GUID, "schema": SCHEMA, "schemaType": "AVRO"})
        self.send_response(200)
        self.send_header("Content-Type", "application/vnd.schemaregistry.v1+json")
        self.send_header("Content-Length", str(len(said)))
        self.end_headers()
        self.wfile.write(said.encode())

    do_GET = do_POST = answer

    def log_message(self, *_):
        pass


server = ThreadingHTTPServer(("127.0.0.1", 0), Registry)
threading.Thread(target=server.serve_forever, daemon=True).start()
registry = SchemaRegistryClient({"url": f"http://127.0.0.1:{server.server_port}"})
serialize = AvroSerializer(registry, SCHEMA, conf={"schema.id.serializer": header_schema_id_serializer, **SUBJECT})
deserialize = AvroDeserializer(registry, conf=SUBJECT)
print("confluent-kafka", confluent_kafka.__version__)
found = []
for name in ("cups", "mugs!"):
    headers = []
    context = SerializationContext("things", MessageField.VALUE, headers)
    body = serialize({"name": name}, context)
    try:
        found.append(deserialize(body, context))
    except SerializationError as error:
        found.append(str(error))
    print(f"{name!r}: body {body}, headers {[key for key, _ in headers]}: {found[-1]}")
assert isinstance(found[0], str) and found[1] == {"name": "mugs!"}
PYTHON
"$folder/venv/bin/python" "$folder/show.py"
