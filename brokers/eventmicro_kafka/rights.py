"""Rights: what has to be allowed to whom, said as the one who has to allow it writes it."""

from __future__ import annotations

from collections.abc import Iterable

from eventmicro.errors import UsageError
from eventmicro_kafka.connection.describing import TopicInfo
from eventmicro_kafka.settings import KafkaSettings

# How a resource is named to kafka-acls.sh. Transactional ids have a random end.
_FLAGS = {
    "topic": "--topic",
    "group": "--group",
    "transactional id": "--resource-pattern-type prefixed --transactional-id",
}


def missing_right(settings: KafkaSettings, operation: str, kind: str, name: str) -> str:
    """Which right is missing, and the command that gives it.

    Args:
        operation: as Kafka's ACLs name it, such as `Read`.
        kind: `topic`, `group` or `transactional id`, of which it is the beginning.
    """
    who = f"User:{settings.user}" if settings.user else "User:NAME"
    whose = who if settings.user else "the principal of this connection"
    return (
        f"{whose} lacks {operation} on {kind} {name!r}: kafka-acls.sh --bootstrap-server {settings.servers[0]} --add "
        f"--allow-principal {who} --operation {operation} {_FLAGS[kind]} {name}"
    )


def check_rights(settings: KafkaSettings, topic: TopicInfo, operations: Iterable[str], about: str) -> None:
    """See that what is needed of a topic may be done from here, as far as the broker says.

    Raises:
        UsageError: it may not; it names the first right that is missing.
    """
    for operation in operations:
        if topic.rights is not None and operation not in topic.rights:
            raise UsageError(f"{about}: {missing_right(settings, operation, 'topic', topic.name)}")
