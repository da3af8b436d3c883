#!/usr/bin/env bash
# RabbitMQ 3.10.8, direct reply-to: an answer that is published as mandatory to the caller's reply_to is delivered to the caller
# and ALSO returned to who published it, with 312 NO_ROUTE, as if nobody were there.
# One would guess: mandatory tells whether the caller is still there: it is returned where he is not, and only then. A server
# that raises or counts what is returned (so do publishers with confirms in several clients) takes each answered call for lost.
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
caller, answers = connection.channel(), []
caller.basic_consume("amq.rabbitmq.reply-to", lambda *parts: answers.append(parts[3].decode()), auto_ack=True)
caller.queue_declare("calls")
caller.basic_publish("", "calls", b"ask", pika.BasicProperties(reply_to="amq.rabbitmq.reply-to"))

other = connect()
server = other.channel()
server.confirm_delivery()
call = None
while call is None:
    call, properties, _ = server.basic_get("calls", auto_ack=True)
server.basic_publish("", properties.reply_to, b"plain answer")
returned = "not returned"
try:
    server.basic_publish("", properties.reply_to, b"mandatory answer", mandatory=True)
except pika.exceptions.UnroutableError as error:
    method = error.messages[0].method
    returned = f"returned: {method.reply_code} {method.reply_text}"

end = time.time() + 10
while len(answers) < 2 and time.time() < end:
    connection.process_data_events(0.1)
other.close()
connection.close()
print("the caller got", answers, "and the mandatory one is", returned)
sys.exit((answers, returned) != (["plain answer", "mandatory answer"], "returned: 312 NO_ROUTE"))
PYTHON
"$folder/venv/bin/python" "$folder/show.py" "$port"
