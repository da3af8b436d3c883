#!/usr/bin/env bash
# grpcio 1.85.3, grpc.aio: a handler that aborts with NOT_FOUND and names a trailing key with a capital, as HTTP headers are
# commonly written (`Retry-After`), makes the caller see INTERNAL, "Invalid metadata"; nothing is raised in the handler. One that
# succeeds and sets such a key fails for the caller, although its work is done.
# One would guess: keys are put into small letters (gRPC's names are case-insensitive, and grpc-go does so), or the handler gets
# the error where it is made. Code that retries INTERNAL and not NOT_FOUND now repeats the work.
# Exits 0 while that is so, non-zero when it changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q grpcio==1.85.3
cat > "$folder/show.py" <<'PYTHON'
import asyncio

import grpc

KEYS = ("retry-after", "Retry-After")


async def main():
    print("grpcio", grpc.__version__)
    finished = []

    async def absent(request, context):
        await context.abort(grpc.StatusCode.NOT_FOUND, "no such order", ((request.decode(), "1"),))

    async def works(request, context):
        context.set_trailing_metadata(((request.decode(), "1"),))
        finished.append(request.decode())
        return b"done"

    server = grpc.aio.server()
    methods = {name: grpc.unary_unary_rpc_method_handler(handler) for name, handler in (("absent", absent), ("works", works))}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("orders", methods),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    found = {}
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        for method in methods:
            for key in KEYS:
                try:
                    found[method, key] = (await channel.unary_unary(f"/orders/{method}")(key.encode(), timeout=10)).decode()
                except grpc.aio.AioRpcError as error:
                    found[method, key] = f"{error.code().name}: {error.details()}"
                print(f"handler {method!r}, trailing key {key!r}: the caller sees {found[method, key]!r}")
    await server.stop(0)
    assert finished == list(KEYS)
    return list(found.values())


refused = "INTERNAL: Invalid metadata"
assert asyncio.run(main()) == ["NOT_FOUND: no such order", refused, "done", refused]
PYTHON
"$folder/venv/bin/python" "$folder/show.py" 2> "$folder/log" || { cat "$folder/log"; exit 1; }
