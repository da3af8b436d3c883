"""driver and link: what goes out in how many writes, what waits while the server takes nothing, and what is kept."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

pytest.importorskip("nats")

from eventmicro_nats import NatsBroker, NatsSettings
from eventmicro_nats.connection.driver import Driver, Perishable
from eventmicro_nats.connection.link import LONGEST_LINE, Link
from eventmicro_nats.connection.reader import Raw, Reader

from eventmicro.errors import Disconnected
from eventmicro.message import Message


class Wire:
    """asyncio's transport, in which each write is seen."""

    def __init__(self, link: Link) -> None:
        self.link = link
        self.writes: list[bytes] = []
        self.aborted = 0

    def write(self, data: bytes) -> None:
        self.writes.append(data)

    def abort(self) -> None:
        self.aborted += 1
        self.link.connection_lost(None)

    close = abort


class Connected(Driver):
    """A driver on a connection that stands."""

    def __init__(self) -> None:
        super().__init__()
        self.options |= {"allow_reconnect": True}
        self._status = Driver.CONNECTED
        self._link = link = Link()
        self.wire = Wire(link)
        link.connection_made(self.wire)
        link.start(self._feed, self._link_changed)
        self.reconnects = 0

    async def _attempt_reconnect(self) -> None:
        self.reconnects += 1

    async def _send_subscribe(self, sub: Any) -> None: ...

    @property
    def link(self) -> Link:
        assert self._link is not None
        return self._link

    async def quiet(self) -> None:
        """Let a turn of the loop pass in which nothing is sent."""
        self.push(b"first\r\n")
        await asyncio.sleep(0)
        self.wire.writes.clear()


async def test_where_little_is_going_on_a_command_leaves_at_once_and_those_after_it_together() -> None:
    driver = Connected()
    await driver.quiet()
    driver.push(b"1")
    assert driver.wire.writes == [b"1"]
    driver.push(b"2")
    driver.push(b"3")
    assert driver.wire.writes == [b"1"]
    assert driver.pending_data_size == 2
    await asyncio.sleep(0)
    assert driver.wire.writes == [b"1", b"23"]
    assert driver.pending_data_size == 0


async def test_after_a_turn_with_much_to_send_all_of_a_turn_leaves_together() -> None:
    driver = Connected()
    await driver.quiet()
    for turn in (b"abc", b"def"):
        for byte in turn:
            driver.push(bytes((byte,)))
        await asyncio.sleep(0)
    assert driver.wire.writes == [b"a", b"bc", b"def"]
    await driver.quiet()
    driver.push(b"g")
    assert driver.wire.writes == [b"g"]


async def test_what_one_read_brings_about_leaves_in_one_write_in_its_order() -> None:
    driver = Connected()

    def answer(subject: bytes, reply: bytes, data: bytes, headers: bytes) -> None:
        driver.push(b"<%b>" % data)

    for subject in ("a", "b"):
        await driver.subscribe_to(subject, "", answer)
    await driver.quiet()
    read = b"".join(b"MSG x %d 1\r\n%d\r\n" % (1 + number // 2 % 2, number) for number in range(10))
    driver.link.data_received(read + b"PING\r\n" + b"MSG x 1 1\r\n!\r\n")
    wanted = b"".join(b"<%d>" % number for number in range(10)) + b"PONG\r\n<!>"
    assert driver.wire.writes == [wanted]
    driver.link.data_received(b"MSG x 1 1\r\n?\r\n")
    assert driver.wire.writes == [wanted, b"<?>"]


async def test_a_ping_is_answered_though_handlers_go_on() -> None:
    driver, going_on = Connected(), list[asyncio.Task[Any]]()

    def begin(subject: bytes, reply: bytes, data: bytes, headers: bytes) -> None:
        going_on.append(asyncio.ensure_future(asyncio.Event().wait()))

    await driver.subscribe_to("a", "", begin)
    driver.link.data_received(b"MSG a 1 0\r\n\r\n" * 100 + b"PING\r\n")
    assert driver.wire.writes == [b"PONG\r\n"]
    for task in going_on:
        task.cancel()


async def test_while_the_server_takes_nothing_nothing_is_written_and_then_all_in_order() -> None:
    driver = Connected()
    await driver.quiet()
    driver.link.pause_writing()
    for number in range(10):
        driver.push(b"%d" % number)
        await asyncio.sleep(0)
    driver.link.data_received(b"PING\r\n")
    assert driver.wire.writes == []
    assert driver.pending_data_size == 16
    driver.link.resume_writing()
    assert driver.wire.writes == [b"0123456789PONG\r\n"]
    assert driver.pending_data_size == 0


async def test_what_waits_is_bounded_and_a_publish_waits_for_room() -> None:
    driver = Connected()
    broker = NatsBroker(settings=NatsSettings(servers=("nats://127.0.0.1:1",), outgoing_bytes=100))
    broker._driver = driver
    driver._max_pending_size = 100
    driver._max_payload = 1000
    await driver.quiet()
    driver.link.pause_writing()
    event = Message("a", b"x" * 20)
    taken = 0
    while broker.try_publish(event):
        taken += 1
        assert taken < 100
    assert driver.pending_data_size <= 100 + 40
    assert not broker.try_send("a", b"")
    with pytest.raises(Disconnected, match="takes nothing and the outgoing buffer is full"):
        await broker.publish(event, timeout=0)
    waiting = asyncio.create_task(broker.publish(Message("a", b"last")))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert not waiting.done()
    assert driver.wire.writes == []
    driver.link.resume_writing()
    await waiting
    await asyncio.sleep(0)
    assert b"".join(driver.wire.writes) == b"PUB a  20\r\n%b\r\n" % event.body * taken + b"PUB a  4\r\nlast\r\n"


async def test_a_connection_lost_while_it_takes_nothing_keeps_what_was_not_written_but_what_perishes() -> None:
    driver = Connected()
    await driver.quiet()
    driver.link.pause_writing()
    for command in (b"1", Perishable(b"gone"), b"2", b"PING\r\n", Perishable(b"gone, too"), b"3"):
        driver.push(command)
    await driver._process_op_err(OSError("lost"))
    await asyncio.sleep(0)
    assert driver._pending == [b"1", b"2", b"3"]
    assert driver.pending_data_size == 3
    assert (driver.wire.writes, driver.wire.aborted, driver.reconnects) == ([], 1, 1)


async def test_who_ends_the_program_in_a_read_leaves_a_driver_that_writes() -> None:
    driver, taken = Connected(), list[bytes]()

    def end(run: list[Raw]) -> None:
        taken.extend(data for _, _, data, _ in run)
        raise KeyboardInterrupt

    await driver.subscribe_to("a", "", lambda *_: None, end)
    await driver.quiet()
    with pytest.raises(KeyboardInterrupt):
        driver.link.data_received(b"MSG a 1 1\r\n1\r\nPING\r\n")
    assert taken == [b"1"]
    driver.push(b"last")
    await asyncio.sleep(0)
    assert driver.wire.writes == [b"last"]


@pytest.mark.parametrize("behind", [b"PING\r\n", b"MSG b 2 0\r\n\r\n", b""])
def test_a_run_is_handed_over_once_though_its_taker_ends_the_program(behind: bytes) -> None:
    runs: list[int] = []

    def end(run: list[Raw]) -> None:
        runs.append(len(run))
        raise KeyboardInterrupt

    class Nobody:
        def on_foreign(self, sid: bytes, run: list[Raw]) -> None: ...
        def on_ping(self) -> None: ...
        def on_pong(self) -> None: ...
        def on_error(self, text: str) -> None: ...
        def on_info(self, text: bytes) -> None: ...

    reader = Reader({b"1": end}, Nobody())
    with pytest.raises(KeyboardInterrupt):
        reader.feed(b"MSG a 1 1\r\n1\r\nMSG a 1 1\r\n2\r\n" + behind)
    assert runs == [2]


async def test_a_greeting_comes_line_by_line_and_what_is_behind_it_is_fed() -> None:
    link, fed = Link(), list[bytes]()
    link.connection_made(Wire(link))
    reading = asyncio.ensure_future(link.readline())
    await asyncio.sleep(0)
    link.data_received(b"INFO {")
    await asyncio.sleep(0)
    assert not reading.done()
    link.data_received(b"}\r\nPONG\r\nMSG a")
    assert await reading == b"INFO {}\r\n"
    assert await link.readline() == b"PONG\r\n"
    assert link.unread == b"MSG a"
    link.start(fed.append, lambda: None)
    link.data_received(b" 1 0\r\n\r\n")
    assert fed == [b"MSG a", b" 1 0\r\n\r\n"]
    assert link.unread == b""


@pytest.mark.parametrize("error", [None, ConnectionResetError("reset")])
async def test_a_greeting_that_ends_early_ends_who_reads_it(error: Exception | None) -> None:
    link = Link()
    link.connection_made(Wire(link))
    reading = asyncio.ensure_future(link.readline())
    await asyncio.sleep(0)
    link.data_received(b"INF")
    if error is None:
        link.eof_received()
        assert await reading == b"INF"
    link.connection_lost(error)
    if error is not None:
        with pytest.raises(ConnectionResetError):
            await reading
    with pytest.raises(ConnectionResetError):
        await link.drain()
    await link.ended()


async def test_a_greeting_without_an_end_is_bounded() -> None:
    link = Link()
    wire = Wire(link)
    link.connection_made(wire)
    reading = asyncio.ensure_future(link.readline())
    for _ in range(LONGEST_LINE // 65_536 + 1):
        link.data_received(b"x" * 65_536)
    await asyncio.wait([reading])
    assert wire.aborted == 1


async def test_who_waits_for_room_goes_on_when_there_is_some_or_the_connection_is_lost() -> None:
    link = Link()
    link.connection_made(Wire(link))
    await link.drain()
    link.pause_writing()
    waiting = [asyncio.ensure_future(link.drain()) for _ in range(3)]
    await asyncio.sleep(0)
    waiting[0].cancel()
    await asyncio.sleep(0)
    assert [task.done() for task in waiting] == [True, False, False]
    link.resume_writing()
    await asyncio.gather(*waiting[1:])
    link.pause_writing()
    lost = asyncio.ensure_future(link.drain())
    await asyncio.sleep(0)
    link.connection_lost(None)
    with pytest.raises(ConnectionResetError):
        await lost


async def test_where_little_is_going_on_the_answer_to_a_message_that_came_alone_leaves_at_once() -> None:
    driver, seen = Connected(), list[list[bytes]]()

    def answer(subject: bytes, reply: bytes, data: bytes, headers: bytes) -> None:
        for byte in data:
            driver.push(bytes((byte,)))
            seen.append(list(driver.wire.writes))

    await driver.subscribe_to("a", "", answer)
    await driver.quiet()
    driver.link.data_received(b"MSG a 1 1\r\n1\r\n")
    driver.link.data_received(b"MSG a 1 1\r\n2\r\n")
    assert seen == [[b"1"], [b"1", b"2"]]
    driver.link.data_received(b"MSG a 1 3\r\n345\r\n")
    assert driver.wire.writes == [b"1", b"2", b"3", b"45"], "the others of a read together"
    driver.link.data_received(b"MSG a 1 1\r\n6\r\nMSG a 1 1\r\n7\r\n")
    assert driver.wire.writes[4:] == [b"67"], "it was a read with more"
    driver.link.data_received(b"MSG a 1 1\r\n8\r\nMSG a 1 1\r\n9\r\n")
    assert driver.wire.writes[5:] == [b"89"]
    assert driver.pending_data_size == 0


async def test_what_waits_to_be_written_is_not_overtaken_by_the_answer_to_a_message_that_came_alone() -> None:
    driver = Connected()

    def answer(subject: bytes, reply: bytes, data: bytes, headers: bytes) -> None:
        driver.push(data)

    await driver.subscribe_to("a", "", answer)
    await driver.quiet()
    driver.push(b"1")
    driver.push(b"2")
    driver.link.data_received(b"MSG a 1 1\r\n3\r\n")
    assert driver.wire.writes == [b"1", b"23"]
    await asyncio.sleep(0)
    assert driver.wire.writes == [b"1", b"23"]
