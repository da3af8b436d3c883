"""What the Kafka adapter makes of the answers about a topic."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka import errors
from aiokafka.protocol.metadata import MetadataRequest
from eventmicro_kafka.consuming.retry import retry_topic
from eventmicro_kafka.patterns import as_name, choose
from eventmicro_kafka.settings import KafkaSettings
from eventmicro_kafka.topics import Topics, check_topic

from eventmicro.errors import TransportError, UsageError


class Cluster:
    """Answers about a topic whose partitions have these leaders, and refuses to make one."""

    def __init__(self, leaders: list[int], refusal: type[errors.BrokerResponseError] = errors.NoError) -> None:
        self.leaders = leaders
        self.refusal = refusal

    async def request(self, request: Any) -> Any:
        if isinstance(request, MetadataRequest):
            partitions = [(0, number, leader, [1], [1]) for number, leader in enumerate(self.leaders)]
            return SimpleNamespace(topics=[(0, "t", False, partitions)])
        return SimpleNamespace(topic_errors=[("t", self.refusal.errno, None)])


def topics(cluster: Any, **settings: Any) -> Topics:
    return Topics(KafkaSettings(**settings), cluster)


async def test_a_topic_that_has_no_leader_now_is_not_missing() -> None:
    assert await topics(Cluster([1, -1]), declare="check").ensure("t") == 2


async def test_a_topic_is_made_when_each_of_its_partitions_has_a_leader() -> None:
    cluster, answers = Cluster([]), iter([[], [], [-1], [1, -1], [1, 1]])  # none; as it is made; then looked for
    request = cluster.request

    async def next_answer(asked: Any) -> Any:
        cluster.leaders = next(answers)
        return await request(asked)

    cluster.request = next_answer  # type: ignore[method-assign]
    assert await topics(cluster).ensure("t") == 2
    assert not list(answers)


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (errors.RequestTimedOutError, TransportError),
        (errors.NotControllerError, TransportError),
        (errors.PolicyViolationError, UsageError),
    ],
)
async def test_a_topic_that_could_not_be_made_now_may_be_later(
    code: type[errors.BrokerResponseError], kind: type[Exception]
) -> None:
    with pytest.raises(kind, match="cannot be made"):
        await topics(Cluster([], code)).ensure("t")


@pytest.mark.parametrize("queue", ["team:app", "größe", "x" * 300, "a b"])
@pytest.mark.parametrize("subject", ["orders.placed", "orders.*", "s" * 200])
def test_a_retry_topic_has_a_name_that_a_topic_may_have_whatever_its_queue_is_called(queue: str, subject: str) -> None:
    name = retry_topic(queue, subject)
    check_topic(name)
    assert name.endswith(f".{as_name(subject)}.retry")
    assert name != retry_topic(queue + "/", subject)
    assert choose(f"{name.partition('.')[0]}.>", [name, as_name(subject)]) == ([], [name]), "no pattern stands for it"


def test_where_a_queue_has_a_name_that_a_topic_may_have_its_retry_topic_begins_with_that() -> None:
    assert retry_topic("orders.bill", "orders.placed") == "orders.bill.orders.placed.retry"
    assert retry_topic("orders.bill", "orders.>") == "orders.bill.orders.--.retry"
    assert retry_topic("orders", "orders") == "orders.retry"
