"""Existing: whether a topic that others have made can keep what is promised of it. None is ever changed."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from eventmicro.errors import UsageError
from eventmicro_kafka.connection.describing import TopicInfo

log = logging.getLogger(__name__)

# How long copies are to be kept at least, in milliseconds: those that wait for their next attempt, and dead letters.
LEAST_RETENTION = 3_600_000


def check_keeps_copies(topic: TopicInfo, config: Mapping[str, str], what: str) -> None:
    """See that a topic can keep each copy of an event that is put there.

    Args:
        config: how it is configured; empty where the broker does not say that.
        what: what it is to this side, such as `the retry topic`.

    Raises:
        UsageError: it cannot; it says which setting is in the way, and how it is to be.
    """
    policy = config.get("cleanup.policy", "delete")
    if "compact" in policy:
        _refuse(topic.name, what, f"cleanup.policy={policy}", "of the copies with one key it keeps the last alone, and "
                "it takes none without a key", "cleanup.policy=delete")  # fmt: skip
    retention = int(config.get("retention.ms") or -1)
    if 0 <= retention < LEAST_RETENTION:
        _refuse(topic.name, what, f"retention.ms={retention}", "what waits there is gone before somebody takes it",
                f"retention.ms={LEAST_RETENTION}")  # fmt: skip


def warn_of_subject(topic: TopicInfo, config: Mapping[str, str], about: str) -> None:
    """Say what a topic that is read may lose before it is handled; that is its owner's to decide."""
    policy = config.get("cleanup.policy", "delete")
    if "compact" in policy:
        log.warning(
            "%s: topic %s has cleanup.policy=%s: of the events with one key the broker may leave the last alone, "
            "before this queue has had the others",
            about,
            topic.name,
            policy,
        )
    retention = int(config.get("retention.ms") or -1)
    if "delete" in policy and 0 <= retention < LEAST_RETENTION:
        log.warning(
            "%s: topic %s has retention.ms=%d: what is not handled by then is lost", about, topic.name, retention
        )


def _refuse(topic: str, what: str, has: str, why: str, wanted: str) -> None:
    raise UsageError(
        f"topic {topic!r} cannot be {what}: it has {has}, so {why}; name another topic, or give it {wanted}: "
        f"kafka-configs.sh --bootstrap-server HOST:PORT --alter --entity-type topics --entity-name {topic} "
        f"--add-config {wanted}"
    )
