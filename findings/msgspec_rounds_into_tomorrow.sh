#!/usr/bin/env bash
# Times with nanoseconds, as Go and Java write them: of "2026-12-31T23:59:59.9999997Z" msgspec 0.23.0 makes the next year, for it rounds
# to microseconds; pydantic 2.14.4, datetime.fromisoformat and protobuf 7.36.2 (to_datetime) cut the rest off, and stay in this one.
# One would guess: readers of one event agree on its day, and reading never makes a time later than it is.
# Exits 0 while that is so, non-zero when it changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q pydantic==2.14.4 msgspec==0.23.0 protobuf==7.36.2
cat > "$folder/show.py" <<'PYTHON'
import json
import sys
from datetime import datetime, timezone

import msgspec
from google.protobuf.json_format import Parse
from google.protobuf.timestamp_pb2 import Timestamp
from pydantic import TypeAdapter

text = b'"2026-12-31T23:59:59.9999997Z"'
moment = Parse(text, Timestamp())
packed = b"\xc7\x0c\xff" + moment.nanos.to_bytes(4, "big") + moment.seconds.to_bytes(8, "big")
found = {
    "msgspec": msgspec.json.decode(text, type=datetime),
    "msgspec, MessagePack": msgspec.msgpack.decode(packed, type=datetime),
    "pydantic": TypeAdapter(datetime).validate_json(text),
    "fromisoformat": datetime.fromisoformat(json.loads(text)),
    "protobuf": moment.ToDatetime(timezone.utc),
}
for name, at in found.items():
    print(f"{name}: {at.isoformat()}")
later = [name for name, at in found.items() if at.year == 2027]
sys.exit(later[:1] != ["msgspec"] or any(name in later for name in ("pydantic", "fromisoformat", "protobuf")))
PYTHON
"$folder/venv/bin/python" "$folder/show.py"
