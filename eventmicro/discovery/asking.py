"""Asking on a subject that many listen to: all who answer within a time, as there is no saying how many there are."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from eventmicro.broker import Broker, Capabilities
from eventmicro.errors import EventMicroError
from eventmicro.information import INFO, PREFIX, WHOLE, Form, read_information
from eventmicro.message import Delivery, Message
from eventmicro.wire import NO_RESPONDERS, STATUS, header

# How long to wait for the first answer, and after each for another one, in seconds.
WITHIN = 2.0
STALL = 0.3
# How many answers are taken, and how many bytes of them: whatever peers send.
MOST = 100_000
MOST_BYTES = 64 * 1024 * 1024
# What a broker has to carry for that.
NEEDED = Capabilities(request_reply=True, broadcast=True)


def can_be_asked(broker: Broker) -> bool:
    """Whether services on this broker can be asked who is there."""
    return not broker.capabilities.missing(NEEDED)


async def ask_all(
    broker: Broker,
    subject: str,
    *,
    body: bytes = b"",
    headers: dict[str, str] | None = None,
    within: float = WITHIN,
    most: int = MOST,
) -> list[Delivery]:
    """What is answered to a message, by whoever listens; nothing at once where nobody does.

    Args:
        within: how long to wait in all, in seconds; it ends earlier when none has come for `STALL` seconds.
        most: how many answers are enough.

    Raises:
        TransportError: the broker did not take the message.
    """
    answers: list[Delivery] = []
    news = asyncio.Event()
    left = MOST_BYTES

    def take(delivery: Delivery) -> None:
        nonlocal left
        left -= len(delivery.body)
        if len(answers) < most and left >= 0:
            answers.append(delivery)
        news.set()

    inbox = broker.inbox()
    subscription = await broker.subscribe(inbox, take)
    try:
        await broker.send(Message(subject, body, headers, inbox))
        with suppress(TimeoutError):
            async with asyncio.timeout(within):
                await news.wait()
                while len(answers) < most and left >= 0 and not _nobody(answers[0]):
                    news.clear()
                    await asyncio.wait_for(news.wait(), STALL)
    finally:
        await subscription.drain()
    return [] if answers and _nobody(answers[0]) else answers


def _nobody(answer: Delivery) -> bool:
    return not answer.body and header(answer.headers, STATUS) == NO_RESPONDERS


async def ask_service(broker: Broker, service: str, *, within: float = WITHIN) -> Form | None:
    """What one node of a service says of itself, its whole record included if it is one of ours; None: nobody does."""
    try:
        answers = await ask_all(broker, f"{PREFIX}.{INFO}.{service}", headers=WHOLE, within=within, most=1)
    except EventMicroError:
        return None
    return read_information(answers[0].body) if answers else None
