"""aiokafka's lines about lost connections and groups in motion, which it tries again by itself, are for debugging only.

What a person is to know of it the broker says once: that the connection is lost, and that it is back.
"""

from __future__ import annotations

import logging

_LINES = {
    "aiokafka": (
        'Unable connect to "%s:%s": %s',
        "Unable connect to node with id %s: %s",
        'Unable to request metadata from "%s:%s": %s',
        "Unable to request metadata from node with id %s: %r",
        "Unable to update metadata from %s",
    ),
    "aiokafka.cluster": (
        "Topic %s is not available during auto-create initialization",
        "Topic %s not found in cluster metadata",
        "No broker metadata found in MetadataResponse -- ignoring.",
    ),
    "aiokafka.conn": ("Sending username and password in the clear",),
    "aiokafka.consumer.fetcher": (
        "Failed fetch messages from %s: %s",
        "Failed fetch offsets from %s: %s",
        "Received unknown topic or partition error in "
        "ListOffset request for partition %s. The "
        "topic/partition may not exist or the user may not "
        "have Describe access to it.",
        "Attempt to fetch offsets for partition %s failed due to: %s",
    ),
    "aiokafka.consumer.group_coordinator": (
        "Attempt to join group failed due to fatal error: %s",
        "Error sending %s to node %s [%s] -- marking coordinator dead",
        "Group Coordinator Request failed: %s",
        "Heartbeat failed for group %s because it is rebalancing",
        "Heartbeat failed for group %s: coordinator (node %s) is either not started or not valid",
        "Heartbeat failed for group %s: generation id is not  current.",
        "Heartbeat failed: local member_id was not recognized; resetting and re-joining group",
        "Heartbeat send request failed: %s. Will retry.",
        "Heartbeat session expired - marking coordinator dead",
        "LeaveGroup request failed: %s",
        "Marking the coordinator dead (node %s)for group %s.",
        "OffsetCommit failed for group %s - %s",
        "OffsetCommit failed for group %s on partition %s with offset %s: %s",
        "OffsetCommit failed for group %s due to group error (%s), will rejoin",
        "OffsetFetchRequest -- unknown topic %s",
    ),
    "aiokafka.coordinator.assignors.roundrobin": ("No partition metadata for topic %s",),
    "aiokafka.producer.sender": (
        "Cannot send %r to %s: %r",
        "Could not send %r: %r",
        "Got error produce response: %s",
        "Got error produce response on topic-partition %s, retrying. Error: %s",
        "Unexpected error during InitProducerIdRequest: %s",
    ),
}


def quieten() -> None:
    """Make them lines of level DEBUG, and leave out what is merely told; calling it again changes nothing."""
    driver = logging.getLogger("aiokafka")
    if driver.level == logging.NOTSET:
        driver.setLevel(logging.WARNING)
    for name, lines in _LINES.items():
        logger = logging.getLogger(name)
        if not any(isinstance(known, _Demote) for known in logger.filters):
            logger.addFilter(_Demote(lines))


class _Demote(logging.Filter):
    def __init__(self, lines: tuple[str, ...]) -> None:
        super().__init__()
        self._lines = frozenset(lines)

    def filter(self, record: logging.LogRecord) -> bool:
        if record.msg in self._lines:
            record.levelno, record.levelname = logging.DEBUG, "DEBUG"
            return logging.getLogger(record.name).isEnabledFor(logging.DEBUG)
        return True
