#!/usr/bin/env bash
# CloudEvents, the Python SDK 2.2.0 and the JavaScript SDK 10.0.0: an event without `time`, which is optional, has one when it was read:
# the time of reading. The same bytes read twice are two events with different times, and an event that is passed on says
# something of its producer that this never said.
# One would guess: what is not there is None or undefined, as with `subject`, and reading and writing changes no attribute.
# Exits 0 while that is so, non-zero when it changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q cloudevents==2.2.0
npm install --silent --no-audit --no-fund --prefix "$folder" cloudevents@10.0.0
event='{"specversion":"1.0","id":"1","source":"/shop","type":"placed"}'
echo "the event: $event"
cat > "$folder/show.py" <<'PYTHON'
import sys
import time

from cloudevents.core.bindings.http import HTTPMessage, from_http_event, to_structured_event

message = HTTPMessage(headers={"content-type": "application/cloudevents+json"}, body=sys.argv[1].encode())
times = []
for _ in range(2):
    event = from_http_event(message)
    print("Python 2.2.0 reads", event.get_attributes())
    times.append(event.get_time())
    time.sleep(0.01)
print("and writes", to_structured_event(event).body)
assert None not in times and times[0] != times[1], "no time is made up"
PYTHON
cat > "$folder/show.cjs" <<'JS'
const { HTTP } = require("cloudevents");
const message = { headers: { "content-type": "application/cloudevents+json" }, body: process.argv[2] };
const first = HTTP.toEvent(message);
setTimeout(() => {
  const second = HTTP.toEvent(message);
  console.log("JavaScript 10.0.0 reads", first.toString(), second.toString());
  process.exit(first.time && first.time !== second.time ? 0 : 1);
}, 20);
JS
"$folder/venv/bin/python" "$folder/show.py" "$event"
node "$folder/show.cjs" "$event"
