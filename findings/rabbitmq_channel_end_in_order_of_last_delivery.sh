#!/usr/bin/env bash
# RabbitMQ 3.10.8, quorum queue with a single active consumer, as one has it for the sake of order: 1, 2, 3 and 4 are delivered,
# 1 is nacked with requeue and delivered again, behind the others, none is acknowledged, and the consumer's connection is closed.
# The next consumer gets 2, 3, 4, 1: what a channel's end gives back comes in the order in which it was last delivered.
# One would guess 1, 2, 3, 4, the order of the queue, as it is where nothing was nacked before. After one nack, events of one
# key are handled in the wrong order when the next consumer takes over.
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
"$folder/venv/bin/pip" install -q pika==1.4.4
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
import sys
import time

import pika


def connect():
    end = time.time() + 120
    while True:
        try:
            return pika.BlockingConnection(pika.ConnectionParameters("127.0.0.1", int(sys.argv[1])))
        except pika.exceptions.AMQPConnectionError:
            if time.time() > end:
                sys.exit("RabbitMQ did not start")
            time.sleep(0.2)


connection = connect()
version = connection._impl.server_properties["version"]
print("RabbitMQ", version)
assert version == "3.10.8", "another version than the one that was looked at"


def deliveries(connection, queue, count, nack):
    """So many deliveries, none acknowledged; the first is nacked when four have come."""
    found, channel = [], connection.channel()
    for method, _, event in channel.consume(queue):
        found.append(event.decode())
        if nack and len(found) == 1:
            first = method.delivery_tag
        if nack and len(found) == 4:
            channel.basic_nack(first, requeue=True)
        if len(found) == count:
            return found


def after_the_end(queue, nack):
    channel = connection.channel()
    channel.confirm_delivery()
    # with a limit: then what is nacked is put first again, not last
    arguments = {"x-queue-type": "quorum", "x-single-active-consumer": True, "x-delivery-limit": 1000}
    channel.queue_declare(queue, durable=True, arguments=arguments)
    for event in "1234":
        channel.basic_publish("", queue, event.encode())
    before = connect()
    print("delivered", deliveries(before, queue, 5 if nack else 4, nack), end=", ")
    before.close()
    found = deliveries(connection, queue, 4, False)
    print("after that connection's end", found)
    return found


plain = after_the_end("plain", False)
nacked = after_the_end("nacked", True)
connection.close()
sys.exit((plain, nacked) != (["1", "2", "3", "4"], ["2", "3", "4", "1"]))
PYTHON
"$folder/venv/bin/python" "$folder/show.py" "$port"
