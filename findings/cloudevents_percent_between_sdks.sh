#!/usr/bin/env bash
# CloudEvents over HTTP in binary mode, from the JavaScript SDK 10.0.0 to the Python SDK 2.2.0: the subject `2%25 off` arrives as
# `2% off`, and back the subject `two words` as `two%20words`; the time loses its microseconds, too. Nothing is refused.
# The JavaScript SDK writes and reads header values as they are; Python's percent-encodes and decodes them, as the HTTP binding
# says. One would guess: two official SDKs of one specification hand attributes on unchanged.
# Exits 0 while that is so, non-zero when it changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q cloudevents==2.2.0
npm install --silent --no-audit --no-fund --prefix "$folder" cloudevents@10.0.0
cat > "$folder/write.cjs" <<'JS'
const { HTTP, CloudEvent } = require("cloudevents");
const event = { id: "1", source: "/shop", type: "placed", subject: process.argv[2], time: "2026-01-01T12:00:00.123456Z", data: {} };
console.log(JSON.stringify(HTTP.binary(new CloudEvent(event))));
JS
cat > "$folder/read.cjs" <<'JS'
const { HTTP } = require("cloudevents");
const { subject, time } = HTTP.toEvent(JSON.parse(process.argv[2]));
console.log(JSON.stringify({ subject, time }));
JS
cat > "$folder/show.py" <<'PYTHON'
import json
import subprocess
import sys
from datetime import datetime, timezone

from cloudevents.core.bindings.http import HTTPMessage, from_http_event, to_binary_event
from cloudevents.core.v1.event import CloudEvent

folder = sys.argv[1]


def node(script, argument):
    return json.loads(subprocess.check_output(["node", f"{folder}/{script}", argument], text=True))


at = datetime(2026, 1, 1, 12, 0, 0, 123456, timezone.utc)
written = node("write.cjs", "2%25 off")
read = from_http_event(HTTPMessage(headers=written["headers"], body=written["body"].encode()))
print("JavaScript writes", written["headers"])
print("Python reads subject", repr(read.get_subject()), "time", read.get_time())
attributes = {"id": "1", "source": "/shop", "type": "placed", "specversion": "1.0", "subject": "two words", "time": at}
ours = to_binary_event(CloudEvent(attributes, None))
back = node("read.cjs", json.dumps({"headers": ours.headers, "body": "{}"}))
print("Python writes", ours.headers)
print("JavaScript reads", back)
assert read.get_subject() == "2% off" and read.get_time() == at.replace(microsecond=123000)
assert back == {"subject": "two%20words", "time": "2026-01-01T12:00:00.123Z"}
PYTHON
"$folder/venv/bin/python" "$folder/show.py" "$folder"
