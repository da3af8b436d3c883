"""The reader says what nats-py's own parser says, wherever the stream of the server is cut."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest

pytest.importorskip("nats")

from eventmicro_nats.connection.reader import LONGEST_LINE, Raw, Reader, TakeRun
from nats.errors import ProtocolError
from nats.protocol.parser import Parser

WORDS = b"MSG 1 PING\r\n+OK{}"
OTHERS = [b"PING\r\n", b"PONG\r\n", b"+OK\r\n", b"-ERR 'x'\r\n", b'INFO {"a":1}\r\n']
HEADERS = b"NATS/1.0\r\nx: y\r\n\r\n"
# The subscriptions that have a taker; that of the other number is a stranger's.
TAKEN = [b"1", b"23"]


class Said:
    """What nats-py's parser says to its client, or ours to who hears it."""

    def __init__(self) -> None:
        self.said: list[Any] = []
        self.runs: list[int] = []

    async def _process_msg(self, sid: int, subject: bytes, reply: bytes, data: bytes, headers: bytes | None) -> None:
        self.said.append((sid, subject, reply, bytes(data), bytes(headers or b"")))

    async def _process_ping(self) -> None:
        self.on_ping()

    async def _process_pong(self) -> None:
        self.on_pong()

    async def _process_err(self, error: str) -> None:
        self.said.append(error)

    async def _process_info(self, info: dict[str, Any]) -> None:
        self.said.append(info)

    def taker(self, sid: bytes) -> TakeRun:
        return lambda run: self.on_foreign(sid, run)

    def on_foreign(self, sid: bytes, run: list[Raw]) -> None:
        self.runs.append(len(run))
        self.said += [(int(sid), *message) for message in run]

    def on_ping(self) -> None:
        self.said.append("ping")

    def on_pong(self) -> None:
        self.said.append("pong")

    def on_error(self, text: str) -> None:
        self.said.append(text.lower())

    def on_info(self, text: bytes) -> None:
        self.said.append(json.loads(text))


def reader(said: Said) -> Reader:
    return Reader({sid: said.taker(sid) for sid in TAKEN}, said)


def stream(chance: random.Random) -> bytes:
    """What a server may send: messages with and without headers, whose bodies look like protocol, and other lines."""
    parts = []
    for _ in range(chance.randint(1, 30)):
        body = bytes(chance.choice(WORDS) for _ in range(chance.choice([0, 1, 5, 50, 300])))
        head = b"a.b %d %b" % (chance.choice([1, 23, 7]), chance.choice([b"", b"_INBOX.a.1 "]))
        kind = chance.random()
        if kind < 0.5:
            parts.append(b"MSG %b%d\r\n%b\r\n" % (head, len(body), body))
        elif kind < 0.75:
            parts.append(b"HMSG %b%d %d\r\n%b%b\r\n" % (head, len(HEADERS), len(HEADERS) + len(body), HEADERS, body))
        else:
            parts.append(chance.choice(OTHERS))
    return b"".join(parts)


@pytest.mark.parametrize("seed", range(10))
async def test_it_says_the_same_as_the_drivers_own_parser_wherever_a_chunk_ends(seed: int) -> None:
    chance = random.Random(seed)
    for _ in range(100):
        sent, own, ours = stream(chance), Said(), Said()
        await Parser(own).parse(sent)
        feeds, position = reader(ours), 0
        while position < len(sent):
            size = chance.choice([1, 2, 7, 30, 200, 2000])
            feeds.feed(sent[position : position + size])
            position += size
        assert ours.said == own.said


def message(sid: int, body: bytes) -> bytes:
    return b"MSG a %d %d\r\n%b\r\n" % (sid, len(body), body)


def headed(subject: bytes, body: bytes) -> bytes:
    return b"HMSG %b 1 %d %d\r\n%b%b\r\n" % (subject, len(HEADERS), len(HEADERS) + len(body), HEADERS, body)


def test_those_of_one_subscription_that_stand_together_come_together() -> None:
    said = Said()
    reader(said).feed(b"".join([message(1, b"1"), message(1, b"2"), message(23, b"3"), message(1, b"4"), b"PING\r\n"]))
    assert said.runs == [2, 1, 1]
    assert [entry if entry == "ping" else entry[3] for entry in said.said] == [b"1", b"2", b"3", b"4", "ping"]


def test_what_stands_before_a_cut_comes_at_once() -> None:
    said = Said()
    feeds = reader(said)
    feeds.feed(message(1, b"1") + message(1, b"2")[:-1])
    assert said.runs == [1]
    feeds.feed(b"\n")
    assert said.runs == [1, 1]


def test_a_taker_that_raises_does_not_stop_the_others() -> None:
    said = Said()

    def fail(run: list[Raw]) -> None:
        raise ValueError

    Reader({b"1": fail, b"23": said.taker(b"23")}, said).feed(message(1, b"1") + message(23, b"2"))
    assert [entry[3] for entry in said.said] == [b"2"]


@pytest.mark.parametrize(
    "bad",
    [
        b"HELLO\r\n",
        b"MSG a\r\n",
        b"MSG a 1 x\r\n",
        b"MSG a 1 -30\r\n\r\n",
        b"MSG a 1\r\n1\r\n",
        b"MSG a 1 r s 1\r\n1\r\n",
        b"MSG b 1 r s 1\r\n1\r\n",
        b"MSG a 1 1 \r\n1\r\n",
        b"MSG a 1 +1\r\n1\r\n",
        b"MSG a 1 1_0\r\n1234567890\r\n",
        b"MSG a b 1\r\n1\r\n",
        b"MXG a 1 1\r\n1\r\n",
        b"HMSG a 1 1\r\n1\r\n",
        b"HMSG a 1 r s 0 1\r\n1\r\n",
        b"HXSG a 1 0 1\r\n1\r\n",
        b"PING 1\r\n",
        b"PONG 1\r\n",
        b"+OK 1\r\n",
        b"HMSG a 1 9 5\r\n123456789\r\n",
        b"HMSG a 1 -30 5\r\n123456789\r\n",
        b"X" * (LONGEST_LINE + 1),
    ],
)
def test_what_is_no_protocol_is_an_error_and_what_stands_before_it_comes(bad: bytes) -> None:
    said = Said()
    with pytest.raises(ProtocolError):
        reader(said).feed(message(1, b"1") + bad)
    assert [entry[3] for entry in said.said] == [b"1"]


def mistaken(chance: random.Random) -> bytes:
    """A first line as no server sends it: a word, a blank or a sign too many, too few or another one; with its body."""
    head = chance.choice([b"MSG a 1 3", b"MSG a 1 r 3", b"MSG b 23 3", b"HMSG a 1 1 3", b"HMSG b 23 r 1 3"])
    words = head.split(b" ")
    for _ in range(chance.randint(1, 2)):
        place = chance.randrange(len(words))
        change = chance.randrange(4)
        if change == 0:
            words.insert(place, chance.choice([b"", b"x", b"1", b"+", b"_"]))
        elif change == 1 and len(words) > 1:
            del words[place]
        elif change == 2:
            words[place] += chance.choice([b"x", b"1", b"_0", b"-"])
        else:
            words[place] = chance.choice([b"-", b"+", b"x", b"0", b""]) + words[place]
    return b" ".join(words) + b"\r\nxxx\r\n"


@pytest.mark.parametrize("seed", range(5))
async def test_what_the_drivers_own_parser_refuses_is_refused_and_what_both_take_is_the_same(seed: int) -> None:
    chance, refused = random.Random(seed), 0
    for _ in range(400):
        before = chance.choice([message(1, b"1"), headed(b"a", b"1")]) * chance.choice([0, 1, 3])
        sent = before + mistaken(chance) + message(1, b"2") * 40 + b"PING\r\n"
        own, ours = Said(), Said()
        try:
            await Parser(own).parse(sent)
            whole = True
        except (ProtocolError, AttributeError):
            whole = False
        try:
            reader(ours).feed(sent)
        except ProtocolError:
            refused += 1
        else:
            assert whole, sent
            assert ours.said == own.said, sent
        assert ours.said == own.said[: len(ours.said)], sent
    assert refused > 200, "most of them are no protocol"


def test_another_connection_begins_with_a_line_of_its_own() -> None:
    said = Said()
    feeds = reader(said)
    feeds.feed(b"MSG a 1 1")
    feeds.reset()
    feeds.feed(message(1, b"1"))
    assert [entry[3] for entry in said.said] == [b"1"]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("remembered", [1, 10_000])
async def test_one_as_long_as_the_one_before_is_read_as_any_other(
    seed: int, remembered: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("eventmicro_nats.connection.reader.SIZES", remembered)
    chance = random.Random(seed)
    bodies = [b"", b"1", b"22", b"33", b"MSG a 1 1\r\n"]
    replies = [b""] * 8 + [b"r "]
    sent = b""
    for _ in range(300):
        body = chance.choice(bodies)
        sent += b"MSG %b %d %b%d\r\n%b\r\n" % (
            b"ab"[: 1 + chance.randrange(20) // 19],
            1,
            chance.choice(replies),
            len(body),
            body,
        )
        sent += chance.choice([b""] * 20 + [b"PING\r\n", message(23, b"22")])
    own = Said()
    await Parser(own).parse(sent)
    for size in (1, 13, 64, len(sent)):
        ours = Said()
        feeds = reader(ours)
        for position in range(0, len(sent), size):
            feeds.feed(sent[position : position + size])
        assert ours.said == own.said
        assert not feeds.has_more


def any_headed(chance: random.Random, subject: bytes = b"a") -> bytes:
    """A message with headers, as JetStream sends events: with a reply or without, headers and body of any length."""
    headers = chance.choice([b"", HEADERS, b"NATS/1.0\r\nHMSG a 1 1: 1\r\n\r\n"])
    body = chance.choice([b"", b"y", b"HMSG a 1 0 1\r\n", b"x" * 30])
    reply = chance.choice([b"", b"$JS.ACK.S.q.1.5.5.1.0 ", b"1 "])
    sizes = b"%d %d" % (len(headers), len(headers) + len(body))
    return b"HMSG %b 1 %b%b\r\n%b%b\r\n" % (subject, reply, sizes, headers, body)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("remembered", [1, 10_000])
async def test_messages_with_headers_on_one_subject_are_read_as_any_other_wherever_they_are_cut(
    seed: int, remembered: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("eventmicro_nats.connection.reader.SIZES", remembered)
    chance = random.Random(seed)
    others = [message(1, b"1"), message(23, b"22"), b"PING\r\n", any_headed(chance, b"ab"), any_headed(chance, b"A")]
    sent = b"".join(any_headed(chance) if chance.random() < 0.8 else chance.choice(others) for _ in range(40))
    own = Said()
    await Parser(own).parse(sent)
    for cut in range(len(sent) + 1):
        ours = Said()
        feeds = reader(ours)
        for part in (sent[:cut], sent[cut:]):
            feeds.feed(part)
            assert not feeds.has_more
        assert ours.said == own.said, cut


@pytest.mark.parametrize(
    "bad",
    [
        b"HMSG a 1 1\r\n1\r\n",
        b"HMSG a 1 r s 0 1\r\n1\r\n",
        b"HMSG a 1 0 1 \r\n1\r\n",
        b"HMSG a 1 9 5\r\n123456789\r\n",
        b"HMSG a 1 r 9 5\r\n123456789\r\n",
        b"HMSG a 1 -1 1\r\n1\r\n",
        b"HMSG a 1 +1 1\r\n1\r\n",
        b"HMSG a 1 r 0 1_0\r\n1234567890\r\n",
        b"HMSG a 1 \r\n1\r\n",
    ],
)
def test_what_is_no_protocol_is_an_error_after_others_with_headers_too(bad: bytes) -> None:
    said = Said()
    with pytest.raises(ProtocolError):
        reader(said).feed(b"HMSG a 1 0 1\r\n1\r\n" * 3 + bad)
    assert [entry[3] for entry in said.said] == [b"1"] * 3


@pytest.mark.parametrize(
    "last", [message(1, b"4"), message(1, b"44"), headed(b"a", b"4"), headed(b"a", b"44")], ids=["4", "44", "h4", "h44"]
)
@pytest.mark.parametrize("first", [message(1, b"1"), headed(b"a", b"1")], ids=["plain", "headed"])
@pytest.mark.parametrize("other", [b"MSG ab 1 1\r\n3\r\n", headed(b"ab", b"3")], ids=["plain", "headed"])
def test_each_message_of_a_wildcard_has_its_own_subject(first: bytes, other: bytes, last: bytes) -> None:
    said = Said()
    reader(said).feed(first * 3 + other + last)
    assert [subject for _, subject, *_ in said.said] == [b"a", b"a", b"a", b"ab", b"a"]


@pytest.mark.parametrize("line", [b"HMSG a 1 5 3", b"HMSG a 1 r 5 3", b"HMSG a 1 r r 1 3", b"HMSG a 1 3"])
def test_of_messages_with_headers_a_further_one_is_held_to_the_protocol_as_the_first(line: bytes) -> None:
    for many in (0, 3):
        said = Said()
        with pytest.raises(ProtocolError):
            reader(said).feed(headed(b"a", b"1") * many + line + b"\r\nxxx\r\n")
        assert len(said.said) == many
