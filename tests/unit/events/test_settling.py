"""settling: what becomes of an event by how its handler ended, and what its dead letter says."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from eventmicro import Ack, Context, DeliveryOptions, MemoryBroker, Nack, Reject, Retry, Service
from eventmicro.codecs import Codecs
from eventmicro.errors import Disconnected, MessageTooLarge, TooManyRequests, UsageError
from eventmicro.events.reasons import describe, why_unreadable
from eventmicro.events.settling import LONGEST_DELAY, Kept, Live
from eventmicro.events.subscriber import Subscriber, Work
from eventmicro.message import Copy, Delivery, Message

Until = Callable[[Callable[[], object]], Awaitable[None]]


class Sent(Delivery):
    """A delivery that notes how it was settled."""

    __slots__ = ("log",)

    def __init__(
        self, *, attempt: int = 1, headers: dict[str, str] | None = None, subject: str = "numbers", id: str = "7"
    ) -> None:
        super().__init__(subject, b"body", headers, attempt=attempt, id=id)
        self.log: list[str] = []

    @property
    def key(self) -> str:
        return "k"

    async def ack(self) -> None:
        self.log.append("ack")

    async def nack(self, delay: float = 0.0) -> None:
        self.log.append(f"nack {delay:g}")


class Letters(MemoryBroker):
    """A broker that keeps what is published, or fails once."""

    def __init__(self, error: Exception | None = None) -> None:
        super().__init__()
        self.error = error
        self.letters: list[Message] = []

    async def publish(self, message: Message, *, timeout: float = 10.0) -> None:
        error, self.error = self.error, None
        if error is not None:
            raise error
        self.letters.append(message)


def kept(broker: MemoryBroker | None = None, **words: Any) -> Kept:
    retry = Retry(attempts=3, backoff=2, jitter=0)
    options = DeliveryOptions(**{"queue": "see", "retry": retry, **words})
    return Kept("numbers.see", broker or Letters(), options)


async def _never(event: Any, context: Context) -> None:
    raise AssertionError("it is not to be handled")


class Mute(Exception):
    """An error that cannot be put into words."""

    def __str__(self) -> str:
        raise RuntimeError("no words")


# -- what becomes of it ----------------------------------------------------------------------------------------

OUTCOMES: list[tuple[BaseException, int, float | None]] = [
    (ValueError(), 1, 2),
    (ValueError(), 2, 4),
    (Nack(), 2, 4),
    (Nack(0), 1, 0),
    (Nack(9.5), 2, 9.5),
    (Nack(1e9), 1, LONGEST_DELAY),
    (ExceptionGroup("", [Nack(7)]), 1, 7),
    (ExceptionGroup("", [Nack(7), Reject()]), 1, 2),
    (TimeoutError(), 1, 2),
    (Mute(), 1, 2),
    (asyncio.CancelledError(), 9, 0),
    (asyncio.CancelledError(), 10, 0),
]


@pytest.mark.parametrize(("error", "attempt", "delay"), OUTCOMES, ids=[f"{e!r} {a}" for e, a, _ in OUTCOMES])
async def test_what_failed_comes_again_after_its_delay(error: BaseException, attempt: int, delay: float | None) -> None:
    letters, delivery = Letters(), Sent(attempt=attempt)
    assert await kept(letters).failed(delivery, error) == delay
    assert (delivery.log, letters.letters) == ([], [])


GIVEN_UP: list[tuple[BaseException, int, str]] = [
    (ValueError("no\nsecond line"), 3, "failed 3 times, the last time by ValueError: no"),
    (ValueError(), 4, "failed 4 times, the last time by ValueError"),
    (Nack(5, "not today"), 3, "failed 3 times, the last time by Nack: not today"),
    (Nack(), 3, "failed 3 times, the last time by Nack"),
    (Reject("no such order"), 1, "rejected: no such order"),
    (Reject(), 1, "rejected"),
    (ExceptionGroup("", [ExceptionGroup("", [Reject("in a task")])]), 1, "rejected: in a task"),
    (SystemExit(3), 1, "failed once, by SystemExit: 3"),
    (Mute(), 3, "failed 3 times, the last time by Mute"),
    (asyncio.CancelledError(), 11, "cancelled, after 11 deliveries"),
    (ValueError("Zürich\r\n" + "x" * 999), 3, "failed 3 times, the last time by ValueError: Z?rich"),
]


@pytest.mark.parametrize(
    ("error", "attempt", "reason"), GIVEN_UP, ids=[f"{type(e).__name__} {a}" for e, a, _ in GIVEN_UP]
)
async def test_what_is_given_up_becomes_a_dead_letter_and_is_then_acknowledged(
    error: BaseException, attempt: int, reason: str
) -> None:
    letters, delivery = Letters(), Sent(attempt=attempt, headers={"X-Trace": "1"})
    assert await kept(letters).failed(delivery, error) is None
    assert delivery.log == ["ack"]
    assert letters.letters == [
        Copy(
            "dead.see",
            b"body",
            {
                "X-Trace": "1",
                "Dead-Letter-Reason": reason,
                "Dead-Letter-Attempts": str(attempt),
                "Dead-Letter-Subject": "numbers",
                "Dead-Letter-Queue": "see",
            },
            key="k",
            id="see.7",
            of=delivery,
        )
    ]


async def test_an_error_that_is_not_worth_a_retry_gives_up_at_once() -> None:
    letters = Letters()
    settling = kept(letters, retry=Retry(on=OSError))
    assert await settling.failed(Sent(), OSError()) is not None
    assert await settling.failed(Sent(), ExceptionGroup("", [OSError()])) is not None
    assert await settling.failed(Sent(), Nack(5)) == 5
    assert await settling.failed(Sent(), ValueError()) is None
    assert len(letters.letters) == 1


async def test_without_a_dead_letter_it_is_said_and_gone(caplog: pytest.LogCaptureFixture) -> None:
    letters, delivery = Letters(), Sent()
    assert await kept(letters, dead_letter=False).failed(delivery, Reject("no such order")) is None
    assert (delivery.log, letters.letters) == (["ack"], [])
    assert "numbers.see: event on numbers is given up: rejected: no such order" in caplog.text


async def test_ack_raised_is_an_ack_even_at_the_last_attempt() -> None:
    letters, delivery = Letters(), Sent(attempt=9)
    assert await kept(letters).failed(delivery, Ack()) is None
    assert (delivery.log, letters.letters) == (["ack"], [])


# -- when it is acknowledged -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ack", "at_start", "at_end"),
    [("after_success", [], ["ack"]), ("before", ["ack"], ["ack"]), ("manual", [], [])],
)
async def test_when_an_event_is_acknowledged(ack: str, at_start: list[str], at_end: list[str]) -> None:
    delivery, seen = Sent(), []

    async def see(event: None, context: Context) -> None:
        seen.append(list(delivery.log))

    subscriber = Subscriber(Work("numbers", "see", see, None, None, None, kept(ack=ack, retry=None)), 1)
    subscriber.receive(delivery)
    assert (seen, delivery.log) == ([at_start], at_end)
    await subscriber.cut_off()


async def test_what_is_acknowledged_before_and_fails_is_gone_and_said(caplog: pytest.LogCaptureFixture) -> None:
    letters = Letters()
    assert await kept(letters, ack="before", retry=None).failed(Sent(), ValueError("x")) is None
    assert await kept(letters, ack="before", retry=None).failed(Sent(), asyncio.CancelledError()) is None
    assert letters.letters == []
    assert "numbers.see: event on numbers failed and is gone" in caplog.text
    assert "numbers.see: event on numbers cut off, and is gone" in caplog.text


# -- dead letters that cannot be published ---------------------------------------------------------------------


async def test_an_event_whose_dead_letter_cannot_be_published_is_kept(caplog: pytest.LogCaptureFixture) -> None:
    delivery = Sent()
    delay = await kept(Letters(Disconnected("away"))).failed(delivery, Reject("x"))
    assert (delivery.log, delay) == ([], 60)
    assert "numbers.see: event on numbers is kept, its dead letter: away" in caplog.text


async def test_an_event_that_was_acknowledged_before_is_gone_with_its_dead_letter(
    caplog: pytest.LogCaptureFixture,
) -> None:
    away = Letters(Disconnected("away"))
    assert await kept(away, ack="before", retry=None).failed(Sent(), Reject("x")) is None
    assert "numbers.see: event on numbers is gone, its dead letter: away" in caplog.text


async def test_an_event_that_was_to_be_acknowledged_before_and_was_not_begun_with_is_kept(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """It could not be read, so its handler did not start: it is not acknowledged yet."""
    away, delivery = Letters(Disconnected("away")), Sent()
    work = Work("numbers", "see", _never, Codecs().body(int), None, None, kept(away, ack="before", retry=None))
    subscriber = Subscriber(work, 1)
    subscriber.receive(delivery)
    assert delivery.log == ["nack 60"]
    assert "numbers.see: event on numbers is kept, its dead letter: away" in caplog.text
    again = Sent(attempt=2)
    subscriber.receive(again)
    assert again.log == ["ack"]
    assert [letter.subject for letter in away.letters] == ["dead.see"]
    await subscriber.cut_off()


@pytest.mark.parametrize("how", ["raise", "context"])
async def test_an_event_that_was_acknowledged_before_is_said_to_be_gone_where_its_settling_raises(
    how: str, caplog: pytest.LogCaptureFixture
) -> None:
    broken, delivery = Letters(TypeError("a bug")), Sent()

    async def see(event: None, context: Context) -> None:
        if how == "raise":
            raise Reject("x")
        broken.error = Disconnected("away")
        await context.reject("x")

    subscriber = Subscriber(Work("numbers", "see", see, None, None, None, kept(broken, ack="before", retry=None)), 1)
    subscriber.receive(delivery)
    assert delivery.log == ["ack"]
    said = "could not be settled, and is gone" if how == "raise" else "is gone, its dead letter: away"
    assert f"numbers.see: event on numbers {said}" in caplog.text
    await subscriber.cut_off()


async def test_an_event_whose_headers_cannot_be_sent_from_here_becomes_a_dead_letter_without_them() -> None:
    letters = Letters(UsageError("no such header may be sent"))
    assert await kept(letters).failed(Sent(headers={"CC": "all"}), Reject("x")) is None
    (letter,) = letters.letters
    assert letter.headers is not None
    assert letter.headers["Dead-Letter-Reason"] == "rejected: x"
    assert "CC" not in letter.headers
    assert letter.key == "k"


async def test_an_event_that_just_fitted_becomes_a_dead_letter_without_its_own_headers_and_key() -> None:
    letters = Letters(MessageTooLarge("1048700 bytes"))
    assert await kept(letters).failed(Sent(headers={"X-Trace": "1"}), Reject("x")) is None
    (letter,) = letters.letters
    assert letter.headers is not None
    assert "X-Trace" not in letter.headers
    assert letter.key is None
    assert letter.headers["Dead-Letter-Reason"] == "rejected: x"


# -- worn out --------------------------------------------------------------------------------------------------


def test_an_event_is_worn_out_when_it_came_twice_as_often_as_retry_allows() -> None:
    often = kept(retry=Retry(attempts=6))
    assert [often.refuses(Sent(attempt=attempt)) for attempt in (1, 6, 12)] == [None, None, None]
    assert often.refuses(Sent(attempt=13)) == "delivered 13 times and never settled"


def test_however_few_attempts_it_has_it_is_not_worn_out_before_the_eleventh_delivery() -> None:
    assert kept(retry=Retry(attempts=1)).refuses(Sent(attempt=10)) is None
    assert kept(retry=Retry(attempts=1)).refuses(Sent(attempt=11)) is not None
    assert Live("numbers.see").refuses(Sent(attempt=99)) is None


def test_only_the_first_worn_out_event_in_the_life_of_a_process_is_given_up() -> None:
    settling = kept()
    killer, innocent = Sent(attempt=11, id="1"), Sent(attempt=11, id="2")
    assert settling.refuses(killer) is not None
    assert settling.refuses(innocent) is None
    assert settling.refuses(killer) is not None, "it comes again where its dead letter could not be published"


# -- wildcards that hold the dead letters too ------------------------------------------------------------------


async def test_subscribers_of_everything_make_no_dead_letters_of_each_others_dead_letters(until: Until) -> None:
    letters: list[str] = []
    seen: list[str] = []
    service = Service("numbers", broker="memory://")

    @service.subscribe(">", name="one")
    @service.subscribe(">", name="two")
    async def see(event: int, context: Context) -> None:
        seen.append(context.topic)

    async with service, MemoryBroker() as broker:
        await broker.subscribe("dead.>", lambda delivery: letters.append(delivery.subject))
        await broker.publish(Message("numbers", b"no number"))
        await broker.publish(Message("numbers", b"1"))
        await until(lambda: len(seen) == 2)
        await broker.publish(Message("numbers", b"2"))
        await until(lambda: len(seen) == 4)
    assert sorted(letters) == ["dead.numbers.one", "dead.numbers.two"]
    assert set(seen) == {"numbers"}


async def test_a_dead_letter_that_is_published_again_becomes_one_again() -> None:
    letters = Letters()
    again = Sent(headers={"Dead-Letter-Subject": "numbers", "Dead-Letter-Queue": "see"})
    wild = Kept("numbers.see", letters, DeliveryOptions(queue="see"), wildcards=True)
    assert await wild.failed(again, Reject("x")) is None
    assert len(letters.letters) == 1


async def test_what_cannot_be_read_is_settled_once() -> None:
    async def see(event: int, context: Context) -> None:
        raise AssertionError("there is nothing to handle")

    letters, delivery = Letters(), Sent()
    subscriber = Subscriber(Work("numbers", "see", see, Codecs().body(int), None, None, kept(letters)), 1)
    subscriber.receive(delivery)
    assert (delivery.log, len(letters.letters)) == (["ack"], 1)
    await subscriber.cut_off()


async def test_what_the_broker_has_taken_back_is_not_begun_with() -> None:
    async def see(event: None, context: Context) -> None:
        raise AssertionError("it is delivered again")

    letters, delivery = Letters(), Sent()
    delivery.lapsed = True
    subscriber = Subscriber(Work("numbers", "see", see, None, None, None, kept(letters)), 1)
    subscriber.receive(delivery)
    assert (delivery.log, letters.letters) == ([], [])
    await subscriber.cut_off()


async def test_a_timeout_of_the_handlers_own_is_told_as_its_own() -> None:
    async def see(event: None, context: Context) -> None:
        raise TimeoutError("the bank does not answer")

    letters = Letters()
    subscriber = Subscriber(Work("numbers", "see", see, None, 60.0, None, kept(letters)), 1)
    subscriber.receive(Sent(attempt=3))
    (letter,) = letters.letters
    assert (letter.headers or {})["Dead-Letter-Reason"].endswith("by TimeoutError: the bank does not answer")
    await subscriber.cut_off()


# -- what no queue keeps ---------------------------------------------------------------------------------------

GONE: list[tuple[BaseException, str]] = [
    (Ack(), ""),
    (Nack(), "numbers.see: event on numbers is gone: Nack; this queue is not durable"),
    (Reject("no such order"), "is gone: Reject: no such order; this queue is not durable"),
    (ValueError("x"), "numbers.see: event on numbers failed"),
    (asyncio.CancelledError(), "numbers.see: event on numbers cut off"),
]


@pytest.mark.parametrize(("error", "said"), GONE, ids=[repr(error) for error, _ in GONE])
async def test_an_event_that_no_queue_keeps_is_gone_and_that_is_said(
    error: BaseException, said: str, caplog: pytest.LogCaptureFixture
) -> None:
    assert await Live("numbers.see").failed(Sent(), error) is None
    assert said in caplog.text
    assert len(caplog.records) == bool(said)


def test_an_error_that_a_codec_should_not_raise_is_a_reason_too() -> None:
    assert why_unreadable(KeyError("secret")) == "it could not be decoded: KeyError"


# -- from within a handler -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("words", "reason"), [((), "rejected"), (("no such order",), "rejected: no such order")])
@pytest.mark.parametrize("how", ["raised", "context"])
async def test_a_handler_that_rejects_gives_the_same_reason_however_it_does_it(
    how: str, words: tuple[str, ...], reason: str
) -> None:
    letters, delivery = Letters(), Sent()

    async def see(event: None, context: Context) -> None:
        if how == "raised":
            raise Reject(*words)
        await context.reject(*words)

    subscriber = Subscriber(Work("numbers", "see", see, None, None, None, kept(letters)), 1)
    subscriber.receive(delivery)
    assert [(letter.headers or {})["Dead-Letter-Reason"] for letter in letters.letters] == [reason]
    assert delivery.log == ["ack"]
    await subscriber.cut_off()


@pytest.mark.parametrize("second", ["ack", "nack", "reject"])
@pytest.mark.parametrize("first", ["ack", "nack", "reject"])
async def test_what_a_handler_settles_itself_is_settled_once_and_an_error_after_it_is_said(
    first: str, second: str, until: Until, caplog: pytest.LogCaptureFixture
) -> None:
    attempts: list[int] = []
    service = Service("numbers", broker="memory://")

    @service.subscribe("numbers", retry=Retry(attempts=2, backoff=0))
    async def see(event: int, context: Context) -> None:
        attempts.append(context.attempt)
        if context.attempt == 1:
            await asyncio.create_task(getattr(context, first)())
            await getattr(context, second)()
            raise ValueError("after it was settled")

    async with service, MemoryBroker() as broker:
        await broker.publish(Message("numbers", b"1"))
        await until(lambda: "failed after its handler had settled it" in caplog.text)
        await broker.publish(Message("numbers", b"2"))
        await until(lambda: attempts.count(1) == 2 and (first != "nack" or attempts.count(2) == 2))
    assert attempts.count(2) == (2 if first == "nack" else 0)
    assert caplog.text.count("went to dead.numbers.see") == (2 if first == "reject" else 0)


async def test_what_a_handler_settles_when_its_time_is_up_is_settled_as_one_that_failed(until: Until) -> None:
    class Slow(MemoryBroker):
        """Takes no dead letter at first."""

        async def publish(self, message: Message, *, timeout: float = 10.0) -> None:
            if len(attempts) == 1:
                await asyncio.Event().wait()
            await super().publish(message, timeout=timeout)

    attempts: list[int] = []
    letters: list[Delivery] = []
    service = Service("numbers", broker=Slow())

    @service.subscribe("numbers", retry=Retry(attempts=5, backoff=0), timeout=0.01)
    async def see(event: int, context: Context) -> None:
        attempts.append(context.attempt)
        await context.reject("no such order")

    async with service, MemoryBroker() as broker:
        await broker.subscribe("dead.numbers.see", letters.append)
        await broker.publish(Message("numbers", b"1"))
        await until(lambda: letters)
    assert attempts == [1, 2]


async def test_an_error_that_says_when_is_tried_again_not_sooner() -> None:
    settling = kept(retry=Retry(backoff=2, jitter=0))
    assert await settling.failed(Sent(), TooManyRequests(retry_after=30)) == 30
    assert await settling.failed(Sent(), TooManyRequests(retry_after=1)) == 2
    assert await settling.failed(Sent(), TooManyRequests(retry_after=1e9)) == LONGEST_DELAY
    grouped = ExceptionGroup("tasks", [TooManyRequests(retry_after=30)])
    assert await settling.failed(Sent(), grouped) == 30


class Order(BaseModel):
    sku: str
    quantity: int


def validation_error() -> ValidationError:
    with pytest.raises(ValidationError) as caught:
        Order.model_validate({"quantity": "hunter2"})
    return caught.value


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (RuntimeError("no\nparameters: hunter2"), "RuntimeError: no"),
        (RuntimeError(), "RuntimeError"),
        (
            validation_error(),
            "ValidationError: 2 validation errors for Order (sku: Field required; "
            "quantity: Input should be a valid integer, unable to parse string as an integer)",
        ),
        (
            ExceptionGroup("several", [KeyError("sku"), ExceptionGroup("more", [OSError("disk")])]),
            "ExceptionGroup: several (2 sub-exceptions) (KeyError: 'sku'; "
            "ExceptionGroup: more (1 sub-exception) (OSError: disk))",
        ),
        (
            ExceptionGroup("many", [ValueError(n) for n in range(9)]),
            "(ValueError: 0; ValueError: 1; ValueError: 2)",
        ),
    ],
)
def test_an_error_is_told_in_a_line_that_names_what_was_wrong_and_not_what_was_worked_on(
    error: Exception, said: str
) -> None:
    assert describe(error).endswith(said)
