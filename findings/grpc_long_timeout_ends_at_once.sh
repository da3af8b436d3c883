#!/usr/bin/env bash
# grpcio 1.85.3, grpc.aio: a call with a timeout of 8e9 s, or of infinity, fails at once with DEADLINE_EXCEEDED and never
# reaches the server; with 7e9 s it works, and the server is told 97,200,000 s (27,000 hours), as it is told for 1e8 s.
# One would guess: a longer timeout is never stricter than a shorter one, and infinity means that there is none, as it does for
# who computes deadlines with floats (`deadline = inf`, `timeout = deadline - now`).
# Exits 0 while that is so, non-zero when it changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q grpcio==1.85.3
cat > "$folder/show.py" <<'PYTHON'
import asyncio
import sys

import grpc


async def main():
    print("grpcio", grpc.__version__)

    async def remaining(_, context):
        return str(round(context.time_remaining())).encode()

    server = grpc.aio.server()
    methods = {"remaining": grpc.unary_unary_rpc_method_handler(remaining)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("clock", methods),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    found = {}
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        call = channel.unary_unary("/clock/remaining")
        for timeout in (60, 1e8, 7e9, 8e9, float("inf")):
            try:
                found[timeout] = "the server has " + (await call(b"", timeout=timeout)).decode()
            except grpc.aio.AioRpcError as error:
                found[timeout] = error.code().name
            print(f"timeout {timeout:g}: {found[timeout]}")
    await server.stop(0)
    return found


found = asyncio.run(main())
for long in (1e8, 7e9):
    assert found[long] == "the server has 97200000", "a long one is told as it is"
assert found[8e9] == found[float("inf")] == "DEADLINE_EXCEEDED", "the longest ones work"
PYTHON
"$folder/venv/bin/python" "$folder/show.py"
