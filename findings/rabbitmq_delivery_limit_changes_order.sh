#!/usr/bin/env bash
# RabbitMQ 3.10.8, quorum queue of the events 1, 2, 3, 4: a consumer takes 1 and gives it back (basic.nack with requeue). Which
# one comes next depends on whether the queue has an x-delivery-limit, here one of 20 that is far from being reached:
#   with no limit     2, 3, 4, 1
#   with a limit      1, 2, 3, 4
# One would guess: the limit says how often an event is tried, and where it goes meanwhile is the same. Who sets a limit so that
# a poison event ends at last, has it block those behind it until then; who has none, loses the order at the first nack.
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
channel = connection.channel()
channel.confirm_delivery()


def next_ones(queue, arguments):
    channel.queue_declare(queue, durable=True, arguments={"x-queue-type": "quorum", **arguments})
    for event in "1234":
        channel.basic_publish("", queue, event.encode())
    first, _, _ = channel.basic_get(queue)
    channel.basic_nack(first.delivery_tag, requeue=True)
    found = []
    while len(found) < 4:
        got, _, event = channel.basic_get(queue)
        if got:
            found.append(event.decode())
            channel.basic_ack(got.delivery_tag)
    return found


without = next_ones("without", {})
limited = next_ones("limited", {"x-delivery-limit": 20})
connection.close()
print("1 is nacked; with no limit come", without, "and with a limit of 20", limited)
sys.exit((without, limited) != (["2", "3", "4", "1"], ["1", "2", "3", "4"]))
PYTHON
"$folder/venv/bin/python" "$folder/show.py" "$port"
