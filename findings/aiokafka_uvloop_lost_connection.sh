#!/usr/bin/env bash
# aiokafka 0.14.0 on uvloop 0.23.0: `AIOKafkaConnection.send` on a connection that has just been lost raises RuntimeError; on
# asyncio it does not. aiokafka expects KafkaConnectionError there, as it documents, so where that happens within its own tasks
# (the producer's sender, the fetcher, the coordinator) these end of it. One guesses that an event loop changes no errors.
# No Kafka is needed: the connection is one to a socket that says nothing.
# Exits 0 while that is so, non-zero when it changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q aiokafka==0.14.0 async-timeout==5.0.1 uvloop==0.23.0
cat > "$folder/show.py" <<'PYTHON'
import asyncio
import sys

import aiokafka
import uvloop
from aiokafka.conn import AIOKafkaConnection
from aiokafka.protocol.metadata import MetadataRequest


async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read()
    writer.close()


async def send_on_a_lost_connection() -> str:
    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    connection = AIOKafkaConnection("127.0.0.1", port, request_timeout_ms=200)
    connection._reader, connection._writer = await asyncio.open_connection("127.0.0.1", port)
    connection._versions = {MetadataRequest.API_KEY: (0, 5)}  # as a broker would have said
    connection._writer.transport.abort()
    await asyncio.sleep(0.05)
    try:
        await connection.send(MetadataRequest([]))
    except Exception as error:
        return type(error).__name__
    finally:
        server.close()
    return "nothing"


found = {
    "asyncio": asyncio.run(send_on_a_lost_connection()),
    "uvloop": uvloop.run(send_on_a_lost_connection()),
}
print(f"aiokafka {aiokafka.__version__}, uvloop {uvloop.__version__}: a request on a lost connection raises {found}")
sys.exit(not (found["uvloop"] == "RuntimeError" and found["asyncio"] != "RuntimeError"))
PYTHON
"$folder/venv/bin/python" "$folder/show.py"
