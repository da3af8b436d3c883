"""Interest: a subscription as the server knows it, by its number."""

from __future__ import annotations


class Interest:
    """A subject and a queue under a number, where nats-py would have a queue and a task: a twentieth of the memory.

    nats-py takes it for its own Subscription where it subscribes anew after a reconnect, and where it closes.
    """

    __slots__ = ("_id", "_queue", "_subject")

    # What nats-py asks: it has no limit, and nobody waits in it.
    _max_msgs = _received = 0
    _wait_for_msgs_task = _message_iterator = _pending_next_msgs_calls = None

    def __init__(self, number: int, subject: str, queue: str) -> None:
        self._id = number
        self._subject = subject
        self._queue = queue

    @property
    def number(self) -> int:
        """What messages for it are marked with."""
        return self._id

    @property
    def subject(self) -> str:
        return self._subject

    @property
    def queue(self) -> str:
        """Who shares the messages; empty where nobody does."""
        return self._queue
