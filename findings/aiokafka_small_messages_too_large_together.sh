#!/bin/bash
# aiokafka 0.14.0: ten messages of 200 bytes go to a topic that takes batches of up to 1,000, its max.message.bytes. One after the other
# each is stored. Sent at the same time all ten fail with MessageSizeTooLargeError: they go in one batch, of up to
# max_batch_size, 16,384 by default, and the broker refuses that as a whole.
# One would guess: the error says that this message is larger than the topic allows; a batch that is too large is split and
# sent again, as Kafka's own producer does (Sender.completeBatch, splitAndReenqueue). So an application that drops what is too
# large, as it would be refused for ever, drops messages that fit.
# No server is needed: in its place is an object that answers produce requests as Kafka does.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q aiokafka==0.14.0 async-timeout==5.0.1
cat > "$folder/show.py" <<'PYTHON'
import asyncio
from collections import Counter
from types import SimpleNamespace

import aiokafka
from aiokafka import TopicPartition
from aiokafka.producer.message_accumulator import MessageAccumulator
from aiokafka.producer.sender import Sender

PLACE, LIMIT, MESSAGES, SIZE = TopicPartition("orders", 0), 1000, 10, 200
MESSAGE_TOO_LARGE = 10


class Broker:
    """Takes batches up to the limit."""

    def __init__(self):
        self.cluster = SimpleNamespace(leader_for_partition=lambda _: 1)
        self.sizes = []

    async def send(self, node, request):
        ((topic, ((partition, batch),)),) = request._topics
        self.sizes.append(len(batch))
        code = MESSAGE_TOO_LARGE if len(batch) > LIMIT else 0
        return SimpleNamespace(API_VERSION=2, topics=[(topic, [(partition, code, 0, -1)])])


async def publish(together):
    broker = Broker()
    batches = MessageAccumulator(broker.cluster, 16384, 0, 30)
    sender = Sender(
        broker, acks=1, txn_manager=None, message_accumulator=batches, retry_backoff_ms=100, request_timeout_ms=1000
    )
    await sender.start()

    async def one():
        stored = await batches.add_message(PLACE, None, bytes(SIZE), 5)
        try:
            await stored
            return "stored"
        except Exception as error:
            return type(error).__name__

    if together:
        outcomes = await asyncio.gather(*(one() for _ in range(MESSAGES)))
    else:
        outcomes = [await one() for _ in range(MESSAGES)]
    await sender.close()
    return dict(Counter(outcomes)), broker.sizes


async def main():
    print("aiokafka", aiokafka.__version__)
    print(f"{MESSAGES} messages of {SIZE} bytes, to a topic that takes {LIMIT}")
    alone, sizes = await publish(together=False)
    print(f"one after the other: {alone}, in batches of {sizes[0]} bytes")
    together, sizes = await publish(together=True)
    print(f"at the same time, expected: {{'stored': {MESSAGES}}}; seen: {together}, in batches of {sizes} bytes")
    assert alone == {"stored": MESSAGES}, "one by one they are not stored"
    assert together == {"MessageSizeTooLargeError": MESSAGES}, "they are not refused together"
    assert len(sizes) == 1, "it is tried again"


asyncio.run(main())
PYTHON
"$folder/venv/bin/python" "$folder/show.py"
