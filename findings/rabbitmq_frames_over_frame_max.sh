#!/bin/bash
# RabbitMQ 3.10.8: client and server agree on a frame_max (here its default, 131072), and AMQP 0-9-1 says that a peer must
# not send longer frames. RabbitMQ cuts bodies so that they fit, and sends longer frames
# itself: to an event that is delivered again a quorum queue adds x-delivery-count, and
# where its headers just fitted, their frame is then longer than frame_max.
# One would guess: a reader may refuse a frame that is over frame_max, as it guards against a garbled length. It would lose
# its connection at that event, and again each time it comes.
# RabbitMQ must be installed: apt-get install --no-install-recommends rabbitmq-server; nothing of its service is used.
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
"$folder/venv/bin/pip" install -q pamqp==4.0.1
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
import socket
import sys
import time

from pamqp import commands, frame, header

port = int(sys.argv[1])


def connect():
    end = time.time() + 120
    while True:
        try:
            connection = socket.create_connection(("127.0.0.1", port), 60)
            connection.sendall(b"AMQP\0\0\x09\x01")
            if connection.recv(1, socket.MSG_PEEK):
                return connection
        except OSError:
            pass
        if time.time() > end:
            sys.exit("RabbitMQ did not start")
        time.sleep(0.2)


connection = connect()
stream = connection.makefile("rb")


def send(said, channel=1):
    data = frame.marshal(said, channel)
    connection.sendall(data)
    return len(data)


def receive(kind):
    """The next frame of this kind, and how long it is."""
    while True:
        head = stream.read(7)
        data = head + stream.read(int.from_bytes(head[3:], "big") + 1)
        said = frame.unmarshal(data)[2]
        if isinstance(said, kind):
            return said, len(data)


start, _ = receive(commands.Connection.Start)
print("RabbitMQ", start.server_properties["version"])
send(commands.Connection.StartOk({}, "PLAIN", "\0guest\0guest", "en_US"), 0)
tune, _ = receive(commands.Connection.Tune)
most = tune.frame_max
send(commands.Connection.TuneOk(tune.channel_max, most, 0), 0)
send(commands.Connection.Open("/"), 0)
receive(commands.Connection.OpenOk)
send(commands.Channel.Open())
receive(commands.Channel.OpenOk)
send(commands.Queue.Declare(queue="q", durable=True, arguments={"x-queue-type": "quorum"}))
receive(commands.Queue.DeclareOk)


def event(length):
    properties = commands.Basic.Properties(headers={"long": "x" * length}, delivery_mode=2)
    return header.ContentHeader(0, 0, properties)


fits = event(most - len(frame.marshal(event(0), 1)))
send(commands.Basic.Publish(exchange="", routing_key="q"))
print("agreed frame_max:", most, "published a header of", send(fits))
send(commands.Basic.Consume(queue="q", consumer_tag="c"))
delivered, _ = receive(commands.Basic.Deliver)
_, first = receive(header.ContentHeader)
send(commands.Basic.Nack(delivered.delivery_tag, requeue=True))
receive(commands.Basic.Deliver)
again, second = receive(header.ContentHeader)
print("delivered with a header of", first, "and again with one of", second)
print("it has", sorted(again.properties.headers))
sys.exit(0 if second > most else 1)
PYTHON
"$folder/venv/bin/python" "$folder/show.py" "$port"
