"""Frames: what protobuf makes of them, and that no bytes of a peer do more than end a stream."""

from __future__ import annotations

import random

import pytest

from eventmicro.errors import BadRequest, StreamBroken
from eventmicro.rpc.streams.credit import HIGHEST_BYTES, HIGHEST_ITEMS, WINDOW_ITEMS, Given, Got, window_bytes
from eventmicro.rpc.streams.frames import MAX_ITEMS, MAX_TEXT, Frame, FrameError, read_frame, write_frame
from eventmicro.rpc.streams.opening import MAX_HEADER, Opening, read_opening, write_opening

FRAMES = [
    Frame(1, 1),
    Frame(300, 1 << 40, [b"", b"a", b"b" * 127, b"c" * 128, b"d" * 70_000]),
    Frame(1, 2, item_limit=1024, byte_limit=1 << 20),
    Frame(1, 3, content_type="application/protobuf", end=True),
    Frame(1, 4, error=b'{"code": 404}'),
    Frame(1, 4, error=b""),
    Frame(1, 5, cancel=True),
    Frame(1, 6, broken="frame 7 came where 6 was awaited"),
    Frame(17, 1, [b"x"], 1, 2, address="orders.$stream.ä", peer_stream=4),
]


@pytest.mark.parametrize("frame", FRAMES, ids=str)
def test_a_frame_is_read_as_it_was_written(frame: Frame) -> None:
    assert read_frame(write_frame(frame)) == frame


def test_fields_that_are_not_known_are_passed_over() -> None:
    known = write_frame(Frame(1, 2, [b"a"], end=True))
    unknown = [
        b"\x78\x05",  # field 15, a number
        b"\x78" + b"\xff" * 9 + b"\x01",  # a negative one
        b"\x79" + b"8" * 8,  # eight bytes
        b"\x7d" + b"4" * 4,  # four bytes
        b"\x7a\x03abc",  # some bytes
        b"\xa2\x06\x01x",  # field 100
    ]
    assert read_frame(b"".join(unknown) + known + b"".join(unknown)) == read_frame(known)


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"\x08", "cut off"),  # a number is missing
        (b"\x08\xff", "cut off"),
        (b"\x08" + b"\xff" * 11, "no end"),
        (b"\x08" + b"\xff" * 9 + b"\x01", "negative"),  # -1
        (b"\x20" + b"\xff" * 9 + b"\x01", "negative"),  # credit of -1
        (b"\x1a\x05abc", "cut off"),  # a message that is longer than the frame
        (b"\x1a" + b"\xff" * 8 + b"\x7f" + b"abc", "too high"),  # … by far
        (b"\x42\x7fabc", "cut off"),
        (b"\x79abc", "cut off"),
        (b"\x0b\x0c", "protobuf"),  # a group
        (b"\x32\x01\xff", "UTF-8"),
        (b"\x5a\x81\x04" + b"a" * 513, "at most"),  # an address that is too long
        (b"\x1a\x00" * (MAX_ITEMS + 1), "at most"),
    ],
)
def test_what_is_no_frame_is_refused(data: bytes, why: str) -> None:
    with pytest.raises(FrameError, match=why):
        read_frame(data)


def test_whatever_bytes_come_are_a_frame_or_are_refused() -> None:
    choose = random.Random(7)
    whole = [write_frame(frame)[:300] for frame in FRAMES]
    refused = 0
    for _ in range(20_000):
        data = bytearray(choose.choice(whole))
        for _ in range(choose.randrange(4)):
            if data:
                data[choose.randrange(len(data))] = choose.randrange(256)
        try:
            read_frame(bytes(data[: choose.randrange(len(data) + 1)]))
        except FrameError:
            refused += 1
    assert 1000 < refused < 20_000


# -- credit ----------------------------------------------------------------------------------------------------


def test_credit_is_given_anew_when_half_of_it_is_read() -> None:
    given = Given(100)
    assert (given.item_limit, given.byte_limit) == (WINDOW_ITEMS, 100)
    given.take([b"a" * 99, b"b" * 5000])  # one more, as fewer than 100 bytes had come
    with pytest.raises(StreamBroken, match="credit"):
        given.take([b""])
    given.read_items, given.read_bytes = 2, 5099
    assert given.renew(100) == (WINDOW_ITEMS + 2, 5199)
    assert given.renew(10) == (WINDOW_ITEMS + 2, 5199)  # others have come, and it is not taken back


def test_more_messages_than_there_was_credit_for_are_refused() -> None:
    given = Given(100)
    given.take([b""] * WINDOW_ITEMS)
    with pytest.raises(StreamBroken, match="credit"):
        given.take([b""])


def test_credit_that_becomes_less_or_is_huge_is_refused() -> None:
    got = Got()
    got.renew(10, 10)
    got.renew(10, 10)
    for items, size in ((9, 10), (10, 9), (HIGHEST_ITEMS + 1, 10), (10, HIGHEST_BYTES + 1), (0, 0)):
        with pytest.raises(StreamBroken, match="credit"):
            got.renew(items, size)
    assert (got.item_limit, got.byte_limit) == (10, 10)


def test_many_streams_of_a_connection_share_what_may_be_on_its_way() -> None:
    assert window_bytes(1) == window_bytes(32) == 1024 * 1024
    assert window_bytes(1000) * 1000 <= 32 * 1024 * 1024
    assert window_bytes(10**9) == 16 * 1024


# -- opening ---------------------------------------------------------------------------------------------------

OPENING = Opening("_INBOX.a.frames", 17, 1024, 65536, 10.0, False)


@pytest.mark.parametrize("opening", [OPENING, Opening("a.b", 1, 1, 1, 0.1, True)])
def test_an_opening_is_read_as_it_was_written(opening: Opening) -> None:
    assert read_opening({"Stream": write_opening(opening)}) == opening
    assert read_opening({"stream": write_opening(opening)}) == opening


def test_a_request_without_the_header_opens_no_framed_stream() -> None:
    assert read_opening(None) is None
    assert read_opening({"traceparent": "00-1-2-01"}) is None


@pytest.mark.parametrize(
    ("keep_alive", "kept"),
    [(1, 0.1), (10**12, 3600.0)],  # a peer that would have this side ping all the time, or never
)
def test_the_keep_alive_of_an_opening_has_bounds(keep_alive: int, kept: float) -> None:
    header = write_opening(OPENING).replace("10000", str(keep_alive))
    opening = read_opening({"Stream": header})
    assert opening is not None
    assert opening.keep_alive == kept


@pytest.mark.parametrize(
    "header",
    [
        "",
        "1",
        "[]",
        "{}",
        "[" * 1000,
        write_opening(OPENING).replace("_INBOX.a.frames", "orders.*"),
        write_opening(OPENING).replace("_INBOX.a.frames", "a" * (MAX_TEXT + 1)),
        write_opening(OPENING).replace("17", "-1"),
        write_opening(OPENING).replace("17", "true"),
        write_opening(OPENING).replace("1024", str(HIGHEST_ITEMS + 1)),
        write_opening(OPENING).replace("65536", str(10**30)),
        write_opening(OPENING).replace("65536", "1e3"),
        write_opening(OPENING).replace("10000", "NaN"),
        write_opening(OPENING) + " " * MAX_HEADER,
    ],
)
def test_an_opening_that_says_what_cannot_be_is_refused(header: str) -> None:
    with pytest.raises(BadRequest, match="header Stream"):
        read_opening({"Stream": header})
