"""The driver's gaps that no real server opens when it is asked to."""

from __future__ import annotations

import pytest

pytest.importorskip("nats")

from eventmicro_nats.connection.driver import Driver
from nats.aio.subscription import Subscription
from nats.errors import BadSubjectError


class QuickServer(Driver):
    """Its server has sent a message before it returns from a subscribe."""

    async def _send_subscribe(self, sub: Subscription) -> None:
        await self._process_msg(sub._id, b"a", b"", b"early", b"")


class Written(list[bytes]):
    """What a transport was given to write."""

    writelines = list.extend


async def test_what_is_sent_now_goes_out_once_and_not_into_a_connection_that_is_lost() -> None:
    driver, written = Driver(), Written()
    driver._transport = written  # type: ignore[assignment]
    driver._status = Driver.RECONNECTING
    driver.push(b"PUB a 4\r\n-NAK\r\n")
    driver.send_now()
    assert not written
    assert driver.pending_data_size
    driver._status = Driver.CONNECTED
    driver.send_now()
    driver.send_now()
    assert written == [b"PUB a 4\r\n-NAK\r\n"]
    assert not driver.pending_data_size


async def test_a_message_that_is_here_before_a_subscribe_returns_is_taken() -> None:
    taken: list[bytes] = []
    driver = QuickServer()
    subscription = await driver.subscribe_to("a", "", lambda subject, reply, data, headers: taken.append(data))
    assert taken == [b"early"]
    driver.forget(subscription)


async def test_a_subscribe_that_is_refused_leaves_nothing_behind() -> None:
    driver = Driver()
    with pytest.raises(BadSubjectError):
        await driver.subscribe_to("a b", "", lambda subject, reply, data, headers: None)
    assert not driver._takes
