#!/bin/bash
# aiokafka 0.14.0, AIOKafkaProducer(transactional_id=...): a transaction has stored a record in one topic; then the broker
# refuses to add another topic to it, as the user may not write there (TOPIC_AUTHORIZATION_FAILED). abort_transaction()
# returns, and nothing was sent: the producer has forgotten that the transaction had partitions, and takes it for empty. On the
# broker it is open still, so readers of committed records wait behind it; and what the next transaction of the same producer
# commits is, to the broker, that one with the record which was "aborted" in it.
# One would guess: abort_transaction() sends EndTxn(abort), as it does where nothing was refused.
# No server is needed: the answers of a broker stand in the script, and what it is asked is printed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q aiokafka==0.14.0 async-timeout==5.0.1
cat > "$folder/show.py" <<'PYTHON'
import asyncio
from types import SimpleNamespace

import aiokafka
from aiokafka import AIOKafkaProducer
from aiokafka.errors import TopicAuthorizationFailedError
from aiokafka.protocol.produce import ProduceRequest
from aiokafka.protocol.transaction import AddPartitionsToTxnRequest, EndTxnRequest, InitProducerIdRequest

asked = []


async def broker(node, request, *, group=None):
    if isinstance(request, InitProducerIdRequest):
        return SimpleNamespace(error_code=0, producer_id=7, producer_epoch=0)
    if isinstance(request, AddPartitionsToTxnRequest):
        topics = [topic for topic, _ in request._topics]
        asked.append(f"add {', '.join(topics)}")
        code = {"orders": 0, "secrets": TopicAuthorizationFailedError.errno}
        return SimpleNamespace(errors=[(t, [(p, code[t]) for p in ps]) for t, ps in request._topics])
    if isinstance(request, ProduceRequest):
        asked.extend(f"store in {topic}" for topic, _ in request._topics)
        code = {"orders": 0, "secrets": TopicAuthorizationFailedError.errno}
        topics = [(t, [(p, code[t], 0, -1, 0) for p, _ in ps]) for t, ps in request._topics]
        return SimpleNamespace(API_VERSION=5, topics=topics)
    assert isinstance(request, EndTxnRequest), request
    asked.append(f"end: {'commit' if request._transaction_result else 'abort'}")
    return SimpleNamespace(error_code=0)


async def nothing(*_, **__):
    return True


async def main():
    print("aiokafka", aiokafka.__version__)
    producer = AIOKafkaProducer(bootstrap_servers="127.0.0.1:9", transactional_id="t", retry_backoff_ms=10)
    client, cluster = producer.client, producer.client.cluster
    client.bootstrap, client.ready, client.send, client.coordinator_lookup = nothing, nothing, broker, nothing
    client._wait_on_metadata = nothing
    cluster.partitions_for_topic = cluster.available_partitions_for_topic = lambda topic: {0}
    cluster.leader_for_partition = lambda place: 1
    await producer.start()
    await producer.begin_transaction()
    await producer.send_and_wait("orders", b"to be aborted")
    try:
        await producer.send_and_wait("secrets", b"x")
    except TopicAuthorizationFailedError:
        print("refused, as it should be")
    await producer.abort_transaction()
    first = list(asked)
    await producer.begin_transaction()
    await producer.send_and_wait("orders", b"to be committed")
    await producer.commit_transaction()
    await producer.stop()
    print("first transaction: ", first)
    print("second transaction:", asked[len(first):])
    print("expected: the first one ends with 'end: abort'")
    return any(each.startswith("end") for each in first)


raise SystemExit(1 if asyncio.run(main()) else 0)
PYTHON
"$folder/venv/bin/python" "$folder/show.py" && echo "seen: it ends with nothing, and the next commit takes it along"
