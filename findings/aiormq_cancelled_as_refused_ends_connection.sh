#!/usr/bin/env bash
# aiormq 7.2.4: of several calls on one connection, each on a channel of its own, that RabbitMQ refuses at the same time, the
# first to fail cancels the others, as asyncio.TaskGroup does; about every third time that costs the whole connection: CHANNEL_ERROR,
# "expected 'channel.open'". The channel of a call that is cancelled just as its refusal has come is closed a second time, after
# the answer to the server's own channel.close, when the server knows that channel no more.
# One would guess: a refusal (404, 403, 406) ends its channel alone, and so does a cancelled call.
# RabbitMQ must be installed: apt-get install --no-install-recommends rabbitmq-server; nothing of its service is used.
# Exits 0 while that is so, non-zero when it changes.
set -euo pipefail
programs=${RABBITMQ_PROGRAMS:-/usr/lib/rabbitmq/bin}
[ -x "$programs/rabbitmq-server" ] || { echo "RabbitMQ is not installed"; exit 2; }
folder=$(mktemp -d)
server=""
epmd=""
end() {
  for process in $server $epmd; do kill "$process" 2>/dev/null && wait "$process" 2>/dev/null || true; done
  rm -rf "$folder"
}
trap end EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q aiormq==7.2.4
free() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }
port=$(free) node=$(free) names=$(free)
export HOME=$folder RABBITMQ_NODENAME=show$port@localhost RABBITMQ_NODE_IP_ADDRESS=127.0.0.1 RABBITMQ_NODE_PORT=$port \
  RABBITMQ_DIST_PORT=$node RABBITMQ_MNESIA_BASE=$folder/data RABBITMQ_LOG_BASE=$folder RABBITMQ_CONF_ENV_FILE=/dev/null \
  RABBITMQ_ENABLED_PLUGINS_FILE=$folder/plugins RABBITMQ_CONFIG_FILE=$folder/none ERL_EPMD_PORT=$names \
  RABBITMQ_ALLOW_INPUT=1 RABBITMQ_SERVER_START_ARGS=-noinput \
  RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS="-kernel inet_dist_use_interface {127,0,0,1}"
echo "[]." > "$folder/plugins"
epmd -address 127.0.0.1 -port "$names" & epmd=$!
# that of /usr/sbin wants to become the user rabbitmq; this one runs as whoever calls it
"$programs/rabbitmq-server" > "$folder/log" 2>&1 & server=$!
cat > "$folder/show.py" <<'PYTHON'
import asyncio
import logging
import sys
import time
from importlib.metadata import version

import aiormq

TRIES = 30
logging.disable()


async def ask(connection, number):
    channel = await connection.channel()
    await channel.exchange_declare(f"missing-{number}", passive=True)


async def is_lost(url):
    connection = await aiormq.connect(url)
    try:
        async with asyncio.TaskGroup() as group:
            for number in range(8):
                group.create_task(ask(connection, number))
    except* aiormq.exceptions.AMQPError:
        pass  # each is refused
    try:
        await (await connection.channel()).basic_qos(prefetch_count=1)
    except Exception as error:
        return repr(error)
    await connection.close()
    return None


async def main():
    url, end = f"amqp://guest:guest@127.0.0.1:{sys.argv[1]}/", time.time() + 120
    while True:
        try:
            connection = await aiormq.connect(url)
            break
        except (OSError, aiormq.exceptions.AMQPError):
            if time.time() > end:
                sys.exit("RabbitMQ did not start")
            await asyncio.sleep(0.2)
    print("aiormq", version("aiormq"), "RabbitMQ", connection.server_properties.get("version"))
    await connection.close()
    ended = [await is_lost(url) for _ in range(TRIES)]
    lost = [why for why in ended if why is not None and "expected 'channel.open'" in why]
    print("expected: connections lost 0 of", TRIES)
    print("seen: connections lost", len(lost), "of", TRIES, set(lost))
    assert lost, "no connection is lost any more"


asyncio.run(main())
PYTHON
"$folder/venv/bin/python" "$folder/show.py" "$port"
