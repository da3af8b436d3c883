"""Kafka with ACLs: each right that is needed is tried at the start, and named as the one who gives it writes it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from confluent_kafka.admin import (
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
)
from eventmicro_kafka import KafkaBroker

from eventmicro.broker import Durable
from eventmicro.errors import NotAllPublished, NotStored, UsageError
from eventmicro.message import Delivery, Message
from tests.conftest import Until
from tests.integration.kafka.admin import make_topic
from tests.servers import KafkaServer

KINDS = {
    "topic": ResourceType.TOPIC,
    "group": ResourceType.GROUP,
    "cluster": ResourceType.BROKER,
    "transactional id": ResourceType.TRANSACTIONAL_ID,
}
Rule = tuple[str, str, str]


class Rules:
    """The rules of a cluster for one user."""

    def __init__(self, server: KafkaServer) -> None:
        self.server = server
        self._admin = AdminClient({"bootstrap.servers": server.bootstrap})

    def allow(self, *rules: Rule) -> None:
        for done in self._admin.create_acls([self._binding(*rule) for rule in rules]).values():
            done.result(10)
        self._wait(rules, there=True)

    def take(self, *rules: Rule) -> None:
        filters = [self._filter(*rule) for rule in rules]
        for done in self._admin.delete_acls(filters).values():
            assert len(done.result(10)) == 1
        self._wait(rules, there=False)

    def _wait(self, rules: Iterable[Rule], *, there: bool) -> None:
        """Return when the broker goes by it."""
        for rule in rules:
            while bool(self._admin.describe_acls(self._filter(*rule)).result(10)) is not there:
                time.sleep(0.01)

    def _binding(self, operation: str, kind: str, name: str) -> AclBinding:
        return AclBinding(*self._fields(operation, kind, name))

    def _filter(self, operation: str, kind: str, name: str) -> AclBindingFilter:
        return AclBindingFilter(*self._fields(operation, kind, name))

    def _fields(self, operation: str, kind: str, name: str) -> tuple[object, ...]:
        word = "".join("_" + letter if letter.isupper() else letter for letter in operation).strip("_").upper()
        return (
            KINDS[kind],
            name,
            ResourcePatternType.PREFIXED if kind == "transactional id" else ResourcePatternType.LITERAL,
            "User:alice",
            "*",
            AclOperation[word],
            AclPermissionType.ALLOW,
        )


@pytest.fixture(scope="module")
def guarded() -> Iterator[Rules]:
    config = {
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "super.users": "User:ANONYMOUS",
    }
    with KafkaServer(config, listeners=["SASL_PLAINTEXT"], users={"alice": "wonder", "bob": "builder"}) as server:
        yield Rules(server)


@asynccontextmanager
async def alice(rules: Rules, more: str = "") -> AsyncIterator[KafkaBroker]:
    address = rules.server.addresses["SASL_PLAINTEXT"]
    async with KafkaBroker(f"kafka://alice:wonder@{address}?sasl=PLAIN{more}") as broker:
        yield broker


def needed(subject: str) -> list[Rule]:
    """What a subscription needs, and nothing else, where its topics are there."""
    return [
        ("Read", "topic", subject),
        ("Read", "group", "q" + subject),
        ("Read", "topic", f"q{subject}.{subject}.retry"),
        ("Write", "topic", f"q{subject}.{subject}.retry"),
        ("Read", "topic", "dead" + subject),
        ("Write", "topic", "dead" + subject),
        ("Read", "group", "dead" + subject),
    ]


async def make_topics(url: str, subject: str) -> None:
    for name in (subject, f"q{subject}.{subject}.retry", "dead" + subject):
        await make_topic(url, name)


@pytest.mark.parametrize("missing", range(7))
async def test_a_missing_right_is_named_at_the_start_with_the_command_that_gives_it(
    missing: int, guarded: Rules, subject: str
) -> None:
    await make_topics(guarded.server.url, subject)
    rules = needed(subject)
    guarded.allow(*(rule for rule in rules if rule is not rules[missing]))
    operation, kind, name = rules[missing]
    async with alice(guarded) as broker:
        durable = Durable(dead_letter="dead" + subject)
        with pytest.raises(UsageError) as refused:
            await broker.subscribe(subject, lambda _: None, queue="q" + subject, durable=durable)
        said = str(refused.value)
        assert "User:alice" in said
        assert f"{kind} '{name}'" in said
        shown = "Describe" if missing == 0 else operation
        assert f"--add --allow-principal User:alice --operation {shown} --{kind} {name}" in said
        guarded.allow(rules[missing])
        assert (await broker.subscribe(subject, lambda _: None, queue="q" + subject, durable=durable)).ended is False


async def test_a_topic_that_may_be_described_and_not_read_is_refused_for_that(guarded: Rules, subject: str) -> None:
    await make_topics(guarded.server.url, subject)
    guarded.allow(*needed(subject)[1:], ("Describe", "topic", subject))
    async with alice(guarded) as broker:
        for queue, durable in (("q" + subject, Durable()), (None, None)):
            with pytest.raises(UsageError, match=f"lacks Read on topic '{subject}'"):
                await broker.subscribe(subject, lambda _: None, queue=queue, durable=durable)


async def test_a_topic_that_may_not_be_written_to_or_made_is_named(guarded: Rules, subject: str) -> None:
    await make_topic(guarded.server.url, subject)
    guarded.allow(("Read", "topic", subject), ("Describe", "topic", "new" + subject))
    async with alice(guarded) as broker:
        with pytest.raises(NotStored, match=f"lacks Write on topic '{subject}': kafka-acls.sh"):
            await broker.publish(Message(subject, b"x"))
        with pytest.raises(NotAllPublished, match=f"lacks Write on topic '{subject}': kafka-acls.sh"):
            await broker.publish_many([Message(subject, b"x")])
        with pytest.raises(UsageError, match=f"lacks Create on topic 'new{subject}'"):
            await broker.publish(Message("new" + subject, b"x"))
        guarded.allow(("Write", "topic", subject))
        await broker.publish(Message(subject, b"x"))


async def test_who_may_write_to_no_topic_at_all_is_told_which_right_is_missing(
    guarded: Rules, subject: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Kafka says that it is one on the cluster, which is needed where there is no other."""
    await make_topic(guarded.server.url, subject)
    address = guarded.server.addresses["SASL_PLAINTEXT"]
    async with KafkaBroker(f"kafka://bob:builder@{address}?sasl=PLAIN") as broker:
        with pytest.raises(NotStored, match=f"User:bob lacks Write on topic '{subject}': kafka-acls.sh"):
            await broker.publish(Message(subject, b"x"))
        with pytest.raises(NotAllPublished, match=f"User:bob lacks Write on topic '{subject}': kafka-acls.sh"):
            await broker.publish_many([Message(subject, b"x")])
    assert not [record for record in caplog.records if record.name.startswith("aiokafka")]


async def test_who_looks_into_a_queue_needs_to_describe_it_and_is_told_so(guarded: Rules, subject: str) -> None:
    queue = "q" + subject
    await make_topic(guarded.server.url, subject)
    async with KafkaBroker(guarded.server.url) as owner, alice(guarded) as broker:
        await owner.declare(subject, queue=queue, durable=Durable(ordered=True))
        await owner.publish(Message(subject, b"x", key="k"))
        with pytest.raises(UsageError, match=f"User:alice lacks Describe on group '{queue}': kafka-acls.sh"):
            await broker.queue_state(queue)
        assert queue not in [state.queue for state in await broker.queue_states()]
        guarded.allow(("Describe", "group", queue), ("Describe", "topic", subject))
        state = await broker.queue_state(queue)
        assert state is not None
        assert (state.waiting, state.oldest) == (1, None), "when it was stored is told to who may read it"
        guarded.allow(("Read", "topic", subject))
        state = await broker.queue_state(queue)
        assert state is not None
        assert state.oldest is not None


async def test_rights_that_are_taken_while_at_work_are_told_and_nothing_is_lost_when_they_are_given_back(
    guarded: Rules, subject: str, until: Until, caplog: pytest.LogCaptureFixture
) -> None:
    await make_topics(guarded.server.url, subject)
    rules = [*needed(subject), ("Write", "topic", subject)]
    guarded.allow(*rules)
    got: list[Delivery] = []

    def take(delivery: Delivery) -> None:
        got.append(delivery)
        assert delivery.try_ack()

    async with alice(guarded) as broker, KafkaBroker(guarded.server.url) as publisher:
        await broker.subscribe(subject, take, queue="q" + subject, durable=Durable(dead_letter="dead" + subject))
        await broker.publish(Message(subject, b"0"))
        await until(lambda: got)
        for number, (rule, word) in enumerate([(rules[0], "topic"), (rules[1], "group")], 1):
            guarded.take(rule)
            await publisher.publish(Message(subject, b"%d" % number))
            await until(lambda: f"lacks Read on {word} " in caplog.text)  # noqa: B023
            guarded.allow(rule)
            await until(lambda: b"%d" % number in [d.body for d in got])  # noqa: B023
        guarded.take(rules[-1])
        with pytest.raises(NotStored, match="lacks Write"):
            await broker.publish(Message(subject, b"x"))
        guarded.allow(rules[-1])
        await broker.publish(Message(subject, b"3"))
        await until(lambda: b"3" in [d.body for d in got])
    assert {d.body for d in got} == {b"0", b"1", b"2", b"3"}
    assert caplog.text.count("lacks Read on topic") < 4, "the same is not told again and again"


async def test_rights_that_transactions_need_are_named_with_the_commands_that_give_them(
    guarded: Rules, subject: str, until: Until
) -> None:
    await make_topics(guarded.server.url, subject)
    await make_topic(guarded.server.url, f"{subject}.out")
    guarded.allow(*needed(subject), ("Describe", "topic", f"{subject}.out"))
    got: list[Delivery] = []
    async with alice(guarded) as broker, KafkaBroker(guarded.server.url) as publisher:
        durable = Durable(dead_letter="dead" + subject, transactional=True)
        with pytest.raises(UsageError) as refused:
            await broker.subscribe(subject, got.append, queue="q" + subject, durable=durable)
        missing = f"--operation Write --resource-pattern-type prefixed --transactional-id q{subject}"
        assert f"User:alice lacks Write on transactional id 'q{subject}': kafka-acls.sh" in str(refused.value)
        assert str(refused.value).endswith(missing)
        guarded.allow(("Write", "transactional id", "q" + subject))
        await broker.subscribe(subject, got.append, queue="q" + subject, durable=durable)
        await publisher.publish(Message(subject, b"x"))
        await until(lambda: got)
        with pytest.raises(NotStored, match=f"lacks Write on topic '{subject}.out': kafka-acls.sh"):
            await broker.publish_and_ack([Message(f"{subject}.out", b"y")], got)
        guarded.allow(("Write", "topic", f"{subject}.out"))
        await broker.publish_and_ack([Message(f"{subject}.out", b"y")], got)
        async with asyncio.timeout(10):
            while (state := await publisher.queue_state("q" + subject)) is None or state.waiting:
                await asyncio.sleep(0.02)
    assert len(got) == 1


async def test_a_topic_of_a_pattern_that_may_not_be_read_is_left_out_and_named_until_it_may(
    guarded: Rules, subject: str, until: Until, caplog: pytest.LogCaptureFixture
) -> None:
    url, queue, got = guarded.server.url, f"{subject}.q", list[bytes]()
    first, second, retry = f"{subject}.a", f"{subject}.b", f"{queue}.{subject}.-.retry"
    for topic in (first, retry):
        await make_topic(url, topic)
    guarded.allow(("Read", "topic", first), ("Read", "group", queue), ("Read", "topic", retry))
    guarded.allow(("Write", "topic", retry))

    def take(delivery: Delivery) -> None:
        got.append(delivery.body)
        delivery.try_ack()

    async with alice(guarded, "&topics_interval=0.1") as broker, KafkaBroker(url) as publisher:
        subscription: Any = await broker.subscribe(f"{subject}.*", take, queue=queue, durable=Durable())
        await make_topic(url, second)
        await publisher.publish(Message(second, b"b"))
        guarded.allow(("Describe", "topic", second))
        await until(lambda: f"lacks Read on topic {second!r}" in caplog.text)
        await publisher.publish(Message(first, b"a"))
        await until(lambda: got)
        assert (got, subscription._following.names) == ([b"a"], [first])
        guarded.allow(("Read", "topic", second))
        await until(lambda: len(got) == 2)
        assert got == [b"a", b"b"]
        assert caplog.text.count(f"lacks Read on topic {second!r}") == 1
