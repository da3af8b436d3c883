#!/bin/bash
# aiokafka 0.14.0, consumer.getmany(): where the records of ONE partition cannot be decoded (here: a valid snappy batch, and
# aiokafka installed as `pip install aiokafka`, without the extra for snappy), the call raises, names no partition, and has
# already moved the position past the records of the OTHER partitions, which it does not return. Who catches the error and
# polls on, as one does, has skipped them; with auto-commit they are committed, too.
# One would guess: an error says where, and what was not returned is returned by the next call.
# No server is needed: the script puts two fetched batches where the fetcher keeps them, and polls as getmany does.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q aiokafka==0.14.0 async-timeout==5.0.1
cat > "$folder/show.py" <<'PYTHON'
import asyncio
import struct

import aiokafka
from aiokafka import TopicPartition
from aiokafka.client import AIOKafkaClient
from aiokafka.consumer.fetcher import READ_UNCOMMITTED, Fetcher, FetchResult, PartitionRecords
from aiokafka.consumer.subscription_state import SubscriptionState
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.memory_records import MemoryRecords
from aiokafka.record.util import calc_crc32c


def plain(values):
    builder = DefaultRecordBatchBuilder(2, 0, 0, -1, -1, -1, 10_000)
    for number, value in enumerate(values):
        builder.append(number, timestamp=0, key=None, value=value, headers=[])
    return bytes(builder.build())


def snappy(batch):
    """The same batch compressed with snappy: one literal of less than 60 bytes."""
    head, records = bytearray(batch[:61]), batch[61:]
    assert len(records) < 60
    records = bytes([len(records), (len(records) - 1) << 2]) + records
    head[8:12] = struct.pack(">i", 61 - 12 + len(records))
    head[22] = 2
    head[17:21] = struct.pack(">I", calc_crc32c(bytes(head[21:]) + records))
    return bytes(head) + records


async def main():
    print("aiokafka", aiokafka.__version__)
    good, packed = TopicPartition("orders", 0), TopicPartition("orders", 1)
    state = SubscriptionState()
    state.assign_from_user([good, packed])
    assignment = state.subscription.assignment
    fetcher = Fetcher(AIOKafkaClient(bootstrap_servers="127.0.0.1:9"), state)
    fetcher._fetch_task.cancel()  # it is not to ask a server for more
    for place, batch in ((good, plain([b"one", b"two"])), (packed, snappy(plain([b"three"])))):
        assignment.state_value(place).seek(0)
        records = PartitionRecords(place, MemoryRecords(batch), [], 0, None, None, True, READ_UNCOMMITTED)
        fetcher._records[place] = FetchResult(place, assignment=assignment, partition_records=records, backoff=0)
    error = None
    try:
        print("first poll returns", await fetcher.fetched_records([], timeout=0))
    except Exception as met:
        error = met
        print("first poll raises", repr(error))
    position = assignment.state_value(good).position
    print("position of orders-0, of which nothing was returned:", position)
    print("second poll returns", await fetcher.fetched_records([], timeout=0))
    assert error is not None and "orders" not in str(error), "it says where"
    assert position == 2, "nothing was skipped"
    print("so 'one' and 'two' are skipped, and the error does not say that orders-1 is the trouble")


asyncio.run(main())
PYTHON
"$folder/venv/bin/python" "$folder/show.py"
