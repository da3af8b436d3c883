"""subscriber: what is skipped, what is logged, and in which order events are handled."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from pydantic import BaseModel, model_validator

from eventmicro import Batch, Client, Context, MemoryBroker, Nack, Reject, Retry, Service, Topic
from eventmicro.errors import NotFound, UsageError
from eventmicro.events import subscriber
from eventmicro.events.settling import Live
from eventmicro.events.subscriber import Subscriber, Work
from eventmicro.message import Delivery, Message

Until = Callable[[Callable[[], object]], Awaitable[None]]


class Number(BaseModel):
    value: int = 0


TOPIC = Topic("numbers.seen", Number)


def made(seen: list[int], *, durable: bool) -> Service:
    """A service that notes the numbers it sees, and fails at 13."""
    service = Service("numbers", broker="memory://")

    @service.subscribe(TOPIC, durable=durable)
    async def see(event: Number) -> None:
        if event.value == 13:
            raise KeyError("unlucky")
        seen.append(event.value)

    return service


async def _see_number(event: Number) -> None: ...


@pytest.mark.parametrize(("subjects", "durable"), [("aa", True), ("aa", False), ("ab", True)])
async def test_two_subscribers_of_one_service_do_not_share_a_queue(subjects: str, durable: bool) -> None:
    with pytest.raises(UsageError, match=r"numbers.0 and numbers.1 name the same queue, 'shared': each event would go"):
        await _sharing(subjects, durable).start()


async def test_a_queue_that_keeps_nothing_is_another_one_on_another_subject() -> None:
    async with _sharing("ab", durable=False):
        pass


def _sharing(subjects: str, durable: bool) -> Service:
    service = Service("numbers", broker="memory://")
    for number, subject in enumerate(subjects):
        service.subscribe(subject, name=f"{number}", queue="shared", durable=durable)(_see_number)
    return service


UNREADABLE: list[tuple[bytes, dict[str, str] | None, str]] = [
    (b"no json", None, "not a valid Number (the body: Invalid JSON"),
    (b'{"value": "x"}', None, "not a valid Number (value: Input should be a valid integer"),
    (b"", None, "not a valid Number"),
    (b"<number/>", {"Content-Type": "text/xml"}, "in a form not taken here: content type 'text/xml' is not taken here"),
]


@pytest.mark.parametrize(("body", "headers", "words"), UNREADABLE, ids=[w[:32] for _, _, w in UNREADABLE])
@pytest.mark.parametrize("durable", [False, True])
async def test_an_event_that_cannot_be_read_is_skipped_and_said(
    body: bytes,
    headers: dict[str, str] | None,
    words: str,
    durable: bool,
    until: Until,
    caplog: pytest.LogCaptureFixture,
) -> None:
    seen: list[int] = []
    async with made(seen, durable=durable), MemoryBroker() as broker, Client(broker) as client:
        await broker.publish(Message("numbers.seen", body, headers))
        await client.publish(TOPIC, Number(value=1))
        await until(lambda: seen)
    assert seen == [1]
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    what = "went to dead.numbers.see: it is" if durable else "skipped, it is"
    assert f"numbers.see: event on numbers.seen {what} {words}" in record.getMessage()
    assert record.exc_info is None


@pytest.mark.parametrize("durable", [False, True])
async def test_a_handler_that_fails_is_logged_with_its_traceback_and_the_next_event_is_handled(
    durable: bool, until: Until, caplog: pytest.LogCaptureFixture
) -> None:
    seen: list[int] = []
    async with made(seen, durable=durable), Client("memory://") as client:
        await client.publish(TOPIC, Number(value=13))
        await client.publish(TOPIC, Number(value=1))
        await until(lambda: seen)
    what = "numbers.see: event on numbers.seen failed"
    assert f"{what}, attempt 1 of 5, comes again in 1" in caplog.text if durable else what in caplog.text
    assert "KeyError: 'unlucky'" in caplog.text


@pytest.mark.parametrize("durable", [False, True])
@pytest.mark.parametrize("error", [NotFound("x"), asyncio.CancelledError(), ValueError("x"), TimeoutError()])
async def test_whatever_a_handler_raises_the_subscription_goes_on(
    error: BaseException, durable: bool, until: Until
) -> None:
    seen: set[int] = set()
    service = Service("numbers", broker="memory://")

    @service.subscribe(TOPIC, durable=durable)
    async def see(event: Number) -> None:
        seen.add(event.value)
        if event.value % 2:
            await asyncio.sleep(0)
        raise error

    async with service, Client("memory://") as client:
        for value in range(6):
            await client.publish(TOPIC, Number(value=value))
        await until(lambda: len(seen) == 6)


async def test_one_at_a_time_is_in_order_though_some_wait(until: Until) -> None:
    seen: list[int] = []
    service = Service("numbers", broker="memory://")
    running = most = 0

    @service.subscribe(TOPIC)
    async def see(event: Number) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        for _ in range(event.value % 5):
            await asyncio.sleep(0)
        seen.append(event.value)
        running -= 1

    async with service, Client("memory://") as client:
        for value in range(200):
            await client.publish(TOPIC, Number(value=value))
        await until(lambda: len(seen) == 200)
    assert seen == list(range(200))
    assert most == 1


async def test_concurrency_lets_as_many_wait_at_the_same_time_and_no_more(until: Until) -> None:
    gate = asyncio.Event()
    running = most = done = 0
    service = Service("numbers", broker="memory://")

    @service.subscribe(TOPIC, concurrency=5)
    async def see(event: Number) -> None:
        nonlocal running, most, done
        running += 1
        most = max(most, running)
        await gate.wait()
        running -= 1
        done += 1

    async with service, Client("memory://") as client:
        for value in range(30):
            await client.publish(TOPIC, Number(value=value))
        await until(lambda: running == 5)
        gate.set()
        await until(lambda: done == 30)
    assert most == 5


async def test_a_subscriber_without_a_message_and_one_of_any_subject_get_what_there_is(until: Until) -> None:
    seen: list[str] = []
    service = Service("numbers", broker="memory://")

    @service.subscribe("numbers.>")
    async def all_of_them(context: Context) -> None:
        seen.append(f"{context.topic} {context.service}.{context.endpoint} {context.metadata} {context.attempt}")

    @service.subscribe("numbers.*")
    async def raw(body: bytes) -> None:
        seen.append(body.decode())

    async with service, Client("memory://") as client:
        await client.publish("numbers.one", b"\x31", metadata={"X-A": "b"})
        await until(lambda: len(seen) == 2)
    assert sorted(seen) == ["1", "numbers.one numbers.all_of_them {'X-A': 'b'} 1"]


async def test_a_service_gets_one_copy_for_each_subscriber_whatever_the_number_of_its_instances(until: Until) -> None:
    copies: list[str] = []

    def instance() -> Service:
        service = Service("numbers", broker="memory://")

        @service.subscribe(TOPIC)
        async def one(event: Number) -> None:
            copies.append("one")

        @service.subscribe(TOPIC)
        async def two(event: Number) -> None:
            copies.append("two")

        @service.subscribe(TOPIC, queue=None)
        async def every(event: Number) -> None:
            copies.append("every")

        return service

    async with instance(), instance(), instance(), Client("memory://") as client:
        for value in range(4):
            await client.publish(TOPIC, Number(value=value))
        await until(lambda: len(copies) == 4 + 4 + 12)
    assert [copies.count(name) for name in ("one", "two", "every")] == [4, 4, 12]


@pytest.mark.parametrize(
    ("durable", "said"), [(False, "cut off"), (True, "cut off, it will be delivered again")], ids=["live", "durable"]
)
async def test_an_event_that_a_stop_cuts_off_is_said(
    durable: bool, said: str, caplog: pytest.LogCaptureFixture, until: Until
) -> None:
    begun = False
    service = Service("numbers", broker="memory://", stop_timeout=0.01)

    @service.subscribe(TOPIC, durable=durable)
    async def see(event: Number) -> None:
        nonlocal begun
        begun = True
        await asyncio.Event().wait()

    async with service, Client("memory://") as client:
        await client.publish(TOPIC, Number())
        await until(lambda: begun)
    assert f"numbers.see: event on numbers.seen {said}\n" in caplog.text
    assert "numbers.see: 1 cut off after 0.01 s" in caplog.text


# -- settlements that are cut off, or fail ---------------------------------------------------------------------


class OwnEnd(BaseException):
    """An error beside the tree of Exception."""


class Letters(MemoryBroker):
    """Dead letters go through `take` first."""

    def __init__(self, take: Callable[[], Awaitable[None]]) -> None:
        super().__init__()
        self._take = take

    async def publish(self, message: Message, *, timeout: float = 10.0) -> None:
        if message.subject.startswith("dead."):
            await self._take()
        await super().publish(message, timeout=timeout)


def failing(error: BaseException, words: dict[str, Any], broker: str | MemoryBroker = "memory://") -> Service:
    service = Service("numbers", broker=broker, stop_timeout=0.05)

    async def one(event: Number) -> None:
        raise error

    async def many(events: list[Number]) -> None:
        raise error

    service.subscribe(TOPIC, name="see", **words)(many if "batch" in words else one)
    return service


WORDS: list[dict[str, Any]] = [{}, {"order_by": "value"}, {"batch": Batch(2, 0.01)}]
BY_WORDS = pytest.mark.parametrize("words", WORDS, ids=["alone", "by key", "batch"])


@BY_WORDS
@pytest.mark.parametrize("error", [OwnEnd(), BaseExceptionGroup("", [OwnEnd(), OwnEnd()])], ids=["own", "group"])
async def test_an_event_whose_handler_raises_what_is_no_exception_is_given_up(
    error: BaseException, words: dict[str, Any], until: Until
) -> None:
    letters: list[Delivery] = []
    async with failing(error, {**words, "retry": Retry(backoff=0)}), MemoryBroker() as broker:
        await broker.subscribe("dead.numbers.see", letters.append)
        for _ in range(2):
            await broker.publish(Message("numbers.seen", b"{}"))
        await until(lambda: len(letters) == 2)


class Panics(BaseModel):
    @model_validator(mode="before")
    @classmethod
    def panic(cls, value: Any) -> Any:
        if value is None:
            return value["count"]  # when it is declared, where nobody is to hear of it
        raise OwnEnd


@BY_WORDS
async def test_an_event_whose_model_raises_what_is_no_exception_is_given_up(
    words: dict[str, Any], until: Until
) -> None:
    letters: list[Delivery] = []
    service = Service("numbers", broker="memory://")

    async def one(event: Panics) -> None: ...

    async def many(events: list[Panics]) -> None: ...

    if "order_by" in words:
        words = {"order_by": lambda event: 1}
    service.subscribe("numbers.seen", name="see", **words)(many if "batch" in words else one)
    async with service, MemoryBroker() as broker:
        await broker.subscribe("dead.numbers.see", letters.append)
        for _ in range(2):
            await broker.publish(Message("numbers.seen", b"{}"))
        await until(lambda: len(letters) == 2)
    assert letters[0].headers is not None
    assert letters[0].headers["Dead-Letter-Reason"] == "it could not be decoded: OwnEnd"


async def test_an_event_whose_key_raises_what_is_no_exception_is_given_up(until: Until) -> None:
    letters: list[Delivery] = []
    service = Service("numbers", broker="memory://")

    def key(event: Number) -> int:
        raise OwnEnd

    @service.subscribe(TOPIC, name="see", order_by=key)
    async def see(event: Number) -> None: ...

    async with service, MemoryBroker() as broker:
        await broker.subscribe("dead.numbers.see", letters.append)
        for _ in range(2):
            await broker.publish(Message("numbers.seen", b"{}"))
        await until(lambda: len(letters) == 2)


@BY_WORDS
@pytest.mark.parametrize("body", [b"{}", b"no json"])
async def test_a_stop_that_cuts_off_a_dead_letter_gives_the_event_back(
    body: bytes, words: dict[str, Any], until: Until
) -> None:
    begun: list[int] = []

    async def never() -> None:
        begun.append(1)
        await asyncio.Event().wait()

    letters: list[Delivery] = []
    async with Letters(never) as shared, MemoryBroker() as broker:  # one that stays connected when the service stops
        async with failing(Reject("no"), words, shared):
            for _ in range(2):
                await broker.publish(Message("numbers.seen", body))
            await until(lambda: begun)
        await broker.subscribe("dead.numbers.see", letters.append)
        async with failing(Reject("no"), words):
            await until(lambda: len(letters) == 2)


@BY_WORDS
async def test_an_event_whose_settlement_fails_comes_again(
    words: dict[str, Any], until: Until, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    errors = [ValueError("a driver's own"), ValueError("a driver's own")]

    async def fail_twice() -> None:
        if errors:
            raise errors.pop()

    monkeypatch.setattr(subscriber, "UNSETTLED_PAUSE", 0)
    letters: list[Delivery] = []
    async with failing(Reject("no"), words, Letters(fail_twice)), MemoryBroker() as broker:
        await broker.subscribe("dead.numbers.see", letters.append)
        for _ in range(2):
            await broker.publish(Message("numbers.seen", b"{}"))
        await until(lambda: len(letters) == 2)
    assert caplog.text.count("event on numbers.seen could not be settled, comes again in 0 s") == 2


class Wordy(Retry):
    """A user's own, that says a wait in no number."""

    def delay(self, attempt: int) -> float:
        return "5"  # type: ignore[return-value]


@BY_WORDS
async def test_an_event_comes_again_though_the_delay_that_retry_says_is_none(
    words: dict[str, Any], until: Until, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(subscriber, "UNSETTLED_PAUSE", 0)
    letters: list[Delivery] = []
    async with failing(ValueError("no"), {**words, "retry": Wordy(attempts=2)}), MemoryBroker() as broker:
        await broker.subscribe("dead.numbers.see", letters.append)
        for _ in range(2):
            await broker.publish(Message("numbers.seen", b"{}"))
        await until(lambda: len(letters) == 2)
    assert caplog.text.count("event on numbers.seen could not be settled, comes again in 0 s") == 2


async def test_an_event_whose_cut_off_cannot_be_settled_comes_again(caplog: pytest.LogCaptureFixture) -> None:
    class Failing(Live):
        async def failed(self, delivery: Delivery, error: BaseException, *, alone: bool = True) -> float | None:
            raise asyncio.CancelledError if isinstance(error, ValueError) else TypeError("a bug")

    async def see(event: None, context: Context) -> None: ...

    works = Subscriber(Work("numbers", "see", see, None, None, None, Failing("numbers.see")), 1)
    delivery = Delivery("numbers.seen")
    assert await works.settle(delivery, works.settling.failed(delivery, ValueError())) == subscriber.UNSETTLED_PAUSE
    assert "event on numbers.seen could not be settled, comes again in 60 s" in caplog.text


@pytest.mark.parametrize("how", ["raise", "context"])
@BY_WORDS
async def test_a_nack_with_a_delay_that_is_none_is_a_failed_attempt(
    words: dict[str, Any], how: str, until: Until, caplog: pytest.LogCaptureFixture
) -> None:
    async def see(event: Any, context: Context) -> None:
        if how == "raise":
            raise Nack("5")  # type: ignore[arg-type]
        await context.nack("5")  # type: ignore[arg-type]

    async def one(event: Number, context: Context) -> None:
        await see(event, context)

    async def many(events: list[Number], context: Context) -> None:
        await see(events, context)

    letters: list[Delivery] = []
    service = Service("numbers", broker="memory://")
    retry = Retry(attempts=2, backoff=0)
    service.subscribe(TOPIC, name="see", retry=retry, **words)(many if "batch" in words else one)
    async with service, MemoryBroker() as broker:
        await broker.subscribe("dead.numbers.see", letters.append)
        for _ in range(2):
            await broker.publish(Message("numbers.seen", b"{}"))
        await until(lambda: len(letters) == 2)
    reasons = {(letter.headers or {})["Dead-Letter-Reason"] for letter in letters}
    said = "UsageError: delay='5': write seconds, 0 or more; a reason is message=..."
    assert reasons == {f"failed 2 times, the last time by {said}"}
    assert "could not be settled" not in caplog.text


@pytest.mark.parametrize("how", ["before", "context.ack"])
@pytest.mark.parametrize("words", WORDS[:2], ids=["alone", "by key"])
async def test_an_event_that_was_acknowledged_and_is_cancelled_does_not_come_again_nor_holds_up_the_next(
    words: dict[str, Any], how: str, until: Until, caplog: pytest.LogCaptureFixture
) -> None:
    attempts: list[int] = []
    service = Service("numbers", broker="memory://")

    @service.subscribe(TOPIC, ack="before" if how == "before" else "after_success", **words)
    async def see(event: Number, context: Context) -> None:
        attempts.append(context.attempt)
        if how != "before":
            await context.ack()
        if len(attempts) == 1:
            raise asyncio.CancelledError

    async with service, Client("memory://") as client:
        for _ in range(2):
            await client.publish(TOPIC, Number())
        await until(lambda: len(attempts) == 2)
    assert attempts == [1, 1]
    assert "will be delivered again" not in caplog.text
