"""What the tests on queues share: a driver whose server says what it is told to."""

from __future__ import annotations

import json
from typing import Any


class Server:
    """What a subscription sees of its driver: what it sent, and a way to answer."""

    is_connected = True

    def __init__(self) -> None:
        self.sent: list[bytes] = []
        self.take: Any = None

    def new_inbox(self) -> str:
        return "_INBOX.x"

    async def subscribe_to(self, subject: str, queue: str, take: Any, take_run: Any = None) -> object:
        self.take = take
        return object()

    def push(self, command: bytes) -> None:
        self.sent.append(command)

    def send_now(self) -> None: ...

    def leave(self, subscription: object) -> None:
        self.take = None

    forget = withdraw = leave

    async def finish(self, subscription: object, name: object) -> None:
        self.take = None

    def drop_unsent(self, start: bytes) -> None:
        self.sent = [command for command in self.sent if not command.startswith(start)]

    def give(self, sequence: int, stored: int = 1, pin: str = "", attempt: int = 1) -> None:
        headers = f"NATS/1.0\r\nNats-Pin-Id: {pin}\r\n\r\n".encode() if pin else b""
        self.take(b"a", b"$JS.ACK.EVENTS.q.%d.%d.%d.%d.0" % (attempt, sequence, sequence, stored), b"{}", headers)

    def tell(self, created: str = "then", floor: int = 0, **more: Any) -> None:
        """Answer the question that came last."""
        info = {
            "created": created,
            "ack_floor": {"stream_seq": floor},
            "ts": "2030-01-01T00:00:00Z",
            "config": {"ack_wait": 30_000_000_000},
            "num_pending": 0,
            "num_ack_pending": 0,
            **more,
        }
        asked = next(command for command in reversed(self.sent) if b".INFO." in command).split()[2]
        self.take(asked, b"", json.dumps(info).encode(), b"")

    def asked(self) -> list[int]:
        """For how many events each request was, in order."""
        requests = (command for command in self.sent if b".MSG.NEXT." in command and b"max_bytes" not in command)
        return [json.loads(command.split(b"\r\n")[1])["batch"] for command in requests]

    def settled(self, word: bytes = b"+ACK") -> list[int]:
        """The sequences of which this was said, in order."""
        commands = [command for command in self.sent if b"\r\n" + word in command and b"$JS.ACK" in command]
        return [int(command.split()[1].split(b".")[5]) for command in commands]
