#!/bin/bash
# aiokafka 0.14.0: a consumer of two partitions that one broker leads. One has a long backlog, the other has no events. Where
# handling what one fetch brought takes longer than 0.1 s, the busy partition stands still for most of the time.
# While its records are handled aiokafka asks the broker for the other partition alone, which answers when fetch_max_wait_ms,
# 500, are over; only then does it ask this broker for anything else. So each 0.16 s of work costs 0.6 s.
# One would guess: a partition without events costs nothing, and a backlog is worked off without pauses.
# No server is needed: in its place is an object that answers fetches as Kafka does, at once if it has any records of what is
# asked for, else after the time that the request allows.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q aiokafka==0.14.0 async-timeout==5.0.1
cat > "$folder/show.py" <<'PYTHON'
import asyncio
import time
from types import SimpleNamespace

import aiokafka
from aiokafka import TopicPartition
from aiokafka.consumer.fetcher import Fetcher
from aiokafka.consumer.subscription_state import SubscriptionState
from aiokafka.record.default_records import DefaultRecordBatchBuilder

BUSY, IDLE = TopicPartition("orders", 0), TopicPartition("orders", 1)
FETCHES, RECORDS, WORK, MAX_WAIT = 6, 16, 0.01, 0.5


def batch(first):
    builder = DefaultRecordBatchBuilder(2, 0, 0, -1, -1, -1, 10_000)
    for number in range(RECORDS):
        builder.append(number, timestamp=0, key=None, value=b"v", headers=[])
    data = bytearray(builder.build())
    data[:8] = first.to_bytes(8, "big")
    return bytes(data)


class Broker:
    """Answers fetches."""

    _metadata_max_age_ms = 1000
    alone = 0

    def __init__(self, ends):
        self.ends = ends
        self._loop = asyncio.get_running_loop()
        self.cluster = SimpleNamespace(leader_for_partition=lambda _: 1)

    async def send(self, node, request):
        asked = {TopicPartition(topic, n): at for topic, places in request.topics for n, at, _ in places}
        if not any(at < self.ends[place] for place, at in asked.items()):
            self.alone += list(asked) == [IDLE]
            await asyncio.sleep(MAX_WAIT)
        found = {place: batch(at) if at < self.ends[place] else b"" for place, at in asked.items()}
        topics = [("orders", [(p.partition, 0, self.ends[p], self.ends[p], None, data) for p, data in found.items()])]
        return SimpleNamespace(API_VERSION=4, topics=topics)


async def work_off(places):
    broker = Broker({BUSY: FETCHES * RECORDS, IDLE: 0})
    state = SubscriptionState()
    state.assign_from_user(places)
    for place in places:
        state.subscription.assignment.state_value(place).seek(0)
    fetcher = Fetcher(broker, state, fetch_max_wait_ms=1000 * MAX_WAIT)
    began, count = time.monotonic(), 0
    while count < FETCHES * RECORDS:
        for records in (await fetcher.fetched_records([], timeout=1, max_records=1)).values():
            await asyncio.sleep(WORK * len(records))
            count += len(records)
    took = time.monotonic() - began
    await fetcher.close()
    return took, broker.alone


async def main():
    print("aiokafka", aiokafka.__version__)
    print(f"{FETCHES * RECORDS} records, {WORK} s of work each")
    alone, _ = await work_off({BUSY})
    print(f"the busy partition alone: {alone:.1f} s")
    beside, asked = await work_off({BUSY, IDLE})
    print(f"beside one without records: {beside:.1f} s; that one was asked for alone {asked} times")
    assert asked >= FETCHES - 1, "it is not asked for alone"
    assert beside > 2 * alone, "the busy one does not stand still"


asyncio.run(main())
PYTHON
"$folder/venv/bin/python" "$folder/show.py"
