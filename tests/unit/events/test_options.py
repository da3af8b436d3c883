"""options: what each asks of the broker, what does not go together, and what a broker cannot do is said first."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime
from typing import Any

import pytest
from pydantic import BaseModel

from eventmicro import Batch, Context, DeliveryOptions, MemoryBroker, Retry, Service, Topic, subscribe
from eventmicro.broker import Capabilities, Durable
from eventmicro.errors import SignatureError, Unsupported, UsageError
from eventmicro.events.options import DeliveryWords

SINCE = datetime(2026, 1, 1, tzinfo=UTC)


class Number(BaseModel):
    value: int = 0


TOPIC = Topic("numbers.seen", Number)
BY_KEY = Topic("numbers.seen", Number, key="value")


def durable(**words: Any) -> Durable:
    return DeliveryOptions(**{"queue": "q", **words}).to_durable()


def needs(topic: Topic[Number] | str = TOPIC, **words: Any) -> set[str]:
    """What a subscriber with these options needs its broker to do."""
    service = Service("numbers")

    service.subscribe(topic, name="see", **words)(_see_many if "batch" in words else _see_one)
    needed = service.subscribers["see"].needs()
    return set(Capabilities().missing(needed))


async def _see_many(events: list[Number]) -> None: ...


# -- the words -------------------------------------------------------------------------------------------------


def test_every_word_of_subscribe_is_a_field_of_the_options_of_the_same_type() -> None:
    words = DeliveryWords.__annotations__
    assert {name: _text(kind) for name, kind in words.items()} == {f.name: f.type for f in fields(DeliveryOptions)}


def _text(kind: Any) -> str:
    return kind.__forward_arg__ if hasattr(kind, "__forward_arg__") else str(kind)


def test_a_word_that_is_none_of_them_is_refused_with_those_that_are() -> None:
    with pytest.raises(UsageError, match=r"no option retires; there are name, middleware, queue, .*dedupe"):
        Service("numbers").subscribe(TOPIC, retires=3)(_see_many)  # type: ignore[call-arg]


def test_a_method_takes_the_same_words() -> None:
    class Numbers:
        @subscribe(TOPIC, retry=Retry(attempts=2), concurrency=3)
        async def see(self, event: Number) -> None: ...

    service = Service("numbers")
    service.add(Numbers())
    assert service.subscribers["see"].options == DeliveryOptions(
        queue="numbers.see", retry=Retry(attempts=2), concurrency=3
    )


# -- what is asked of the broker -------------------------------------------------------------------------------

NEEDED: list[tuple[dict[str, Any], set[str]]] = [
    ({}, {"queue_groups"}),
    ({"queue": "shared"}, {"queue_groups"}),
    ({"queue": None}, {"broadcast"}),
    ({"durable": False}, {"queue_groups"}),
    ({"durable": True}, {"queue_groups", "durable"}),
    ({"ack": "before"}, {"queue_groups"}),
    ({"ack": "manual"}, {"queue_groups", "durable"}),
    ({"retry": Retry()}, {"queue_groups", "durable"}),
    ({"dead_letter": "lost.numbers"}, {"queue_groups", "durable"}),
    ({"dead_letter": False}, {"queue_groups"}),
    ({"concurrency": 5, "timeout": 1.0}, {"queue_groups"}),
    ({"batch": Batch()}, {"queue_groups"}),
    ({"prefetch": 5}, {"queue_groups", "durable"}),
    ({"order_by": "value"}, {"queue_groups", "durable", "ordered"}),
    ({"start": "all"}, {"queue_groups", "durable", "replay"}),
    ({"start": SINCE}, {"queue_groups", "durable", "replay"}),
    ({"dedupe": 60.0}, {"queue_groups", "durable", "dedupe"}),
]


@pytest.mark.parametrize(("words", "needed"), NEEDED, ids=[str(words) for words, _ in NEEDED])
def test_what_an_option_needs_of_the_broker(words: dict[str, Any], needed: set[str]) -> None:
    assert needs(**words) == needed


def test_wildcards_are_needed_where_the_subject_has_some() -> None:
    assert needs("numbers.*") == {"queue_groups", "wildcards"}
    assert needs("numbers.>") == {"queue_groups", "wildcards"}


def test_order_by_what_events_are_published_under_needs_order_within_a_key_only() -> None:
    assert needs(BY_KEY, order_by="value") == {"queue_groups", "durable", "ordered_keys"}
    assert needs(BY_KEY, order_by=lambda event: event.value) == {"queue_groups", "durable", "ordered"}


def test_what_a_durable_queue_is_asked_for() -> None:
    assert durable() == Durable(prefetch=100, dead_letter="dead.q")
    assert durable(dead_letter=None).dead_letter == "dead.q"
    assert durable(dead_letter="lost").dead_letter == "lost"
    assert durable(dead_letter=False).dead_letter is None
    assert durable(order_by="value").ordered
    assert durable(start=SINCE).start == SINCE
    assert durable(dedupe=5).dedupe == 5
    assert durable(transactional=True).transactional


def test_prefetch_is_enough_for_what_is_handled_at_the_same_time() -> None:
    assert durable(prefetch=7).prefetch == 7
    assert durable(concurrency=300).prefetch == 300
    assert durable(concurrency=3, batch=Batch(200)).prefetch == 600


def test_a_queue_is_durable_where_the_broker_can_unless_it_is_said() -> None:
    able, unable = Capabilities(durable=True), Capabilities()
    assert [DeliveryOptions().is_durable(able), DeliveryOptions().is_durable(unable)] == [True, False]
    assert not DeliveryOptions(durable=False).is_durable(able)
    assert not DeliveryOptions(queue=None).is_durable(able)


def test_a_subscriber_has_a_queue_of_its_own_name_and_dead_letters_beside_it() -> None:
    service = Service("numbers")
    service.subscribe(TOPIC, name="see")(_see_one)
    options = service.subscribers["see"].options
    assert (options.queue, options.dead_letter_subject()) == ("numbers.see", "dead.numbers.see")


async def _see_one(event: Number) -> None: ...


# -- what cannot be --------------------------------------------------------------------------------------------

REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"concurrency": 0}, "concurrency=0"),
    ({"timeout": 0}, "timeout=0"),
    ({"timeout": float("nan")}, "timeout=nan"),
    ({"timeout": float("inf")}, "timeout=inf: write seconds, more than 0 and up to 1e.07"),
    ({"timeout": True}, "timeout=True: write seconds"),
    ({"dedupe": float("inf")}, "dedupe=inf: write seconds"),
    ({"prefetch": 0}, "prefetch=0"),
    ({"prefetch": 9, "batch": Batch(10)}, "prefetch=9"),
    ({"prefetch": 4, "concurrency": 5}, "prefetch=4"),
    ({"dedupe": 0}, "dedupe=0"),
    ({"dedupe": float("nan")}, "dedupe=nan"),
    ({"ack": "later"}, "ack='later'"),
    ({"start": "tomorrow"}, "start='tomorrow'"),
    ({"start": datetime(2026, 1, 1)}, "time zone"),
    ({"start": datetime(9999, 1, 1, tzinfo=UTC)}, "still to come: write 'new'"),
    ({"queue": "a b"}, "queue='a b': write tokens"),
    ({"queue": "a.*"}, r"queue='a\.\*': wildcards are for subscribing; write an exact one"),
    ({"queue": 3}, "queue=3: write a name, or None"),
    ({"queue": False}, "queue=False: write a name, or None"),
    ({"durable": "yes"}, "durable='yes': write True, False, or None"),
    ({"dead_letter": "a..b"}, r"dead_letter='a\.\.b': write tokens"),
    ({"dead_letter": "dead.*"}, r"dead_letter='dead\.\*': wildcards are for subscribing; write an exact one"),
    ({"dead_letter": ""}, "dead_letter='': write tokens"),
    ({"dead_letter": True}, "dead_letter=True: write a subject, such as TOPIC.name, or False for nowhere; without it"),
    ({"order_by": "value", "batch": Batch()}, "batch and order_by"),
    ({"ack": "before", "retry": Retry()}, "ack='before' and retry do not go together"),
    ({"ack": "manual", "order_by": "value"}, "ack='manual' and order_by do not go together"),
    ({"retry": 5}, r"retry=5: write Retry\(attempts=\.\.\.\)"),
    ({"concurrency": 1.5}, "concurrency=1.5: write a whole number"),
    ({"concurrency": "4"}, "concurrency='4': write a whole number"),
    ({"prefetch": True}, "prefetch=True: write a whole number"),
    ({"timeout": "1"}, "timeout='1': write seconds"),
    ({"dedupe": "1"}, "dedupe='1': write seconds"),
    ({"dead_letter": 5}, "dead_letter=5: write a subject"),
    ({"batch": 100}, r"batch=100: write Batch\(size=\.\.\.\)"),
    ({"order_by": 5}, "order_by=5: write the name of a field"),
    ({"order_by": "valeu"}, "order_by='valeu': Number has no such field; there are value"),
    ({"queue": None, "durable": True}, "durable: only a durable queue can do that, and queue=None has no queue"),
    ({"queue": None, "ack": "manual"}, "ack='manual': only a durable"),
    ({"queue": None, "retry": Retry()}, "retry: only a durable"),
    ({"queue": None, "dead_letter": "lost"}, "dead_letter: only a durable"),
    ({"queue": None, "order_by": "value"}, "order_by: only a durable"),
    ({"queue": None, "prefetch": 5}, "prefetch: only a durable"),
    ({"queue": None, "start": "all"}, "start: only a durable"),
    ({"queue": None, "dedupe": 5.0}, "dedupe: only a durable"),
    ({"durable": False, "retry": Retry(), "dedupe": 5.0}, "retry, dedupe: .* durable=False keeps nothing"),
]


@pytest.mark.parametrize(("words", "said"), REFUSED, ids=[str(words) for words, _ in REFUSED])
def test_what_cannot_be_kept_is_refused_when_it_is_written(words: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        needs(**words)


@pytest.mark.parametrize(
    ("word", "value"),
    [("size", 0), ("size", 1.5), ("within", -1), ("within", "1"), ("within", float("nan")), ("within", float("inf"))],
)
def test_a_batch_has_a_size_and_an_end(word: str, value: Any) -> None:
    with pytest.raises(UsageError, match=rf"Batch: {word}={value!r}: write "):
        Batch(**{word: value})
    assert Batch(1, 0) == Batch(size=1, within=0.0)


def test_a_batch_is_a_list_of_what_the_topic_carries() -> None:
    async def one(event: Number) -> None: ...

    async def other(events: list[str]) -> None: ...

    service = Service("numbers")
    with pytest.raises(SignatureError, match=r"events: list\[YourModel\]"):
        service.subscribe(TOPIC, batch=Batch())(one)
    with pytest.raises(SignatureError, match=r"carries Number"):
        service.subscribe(TOPIC, batch=Batch())(other)
    with pytest.raises(SignatureError, match=r"batch"):
        service.subscribe("numbers.seen", batch=Batch())(one)
    service.subscribe(TOPIC, batch=Batch())(_see_many)
    assert service.subscribers["_see_many"].event is Number


def test_order_by_needs_the_event() -> None:
    async def see(context: Context) -> None: ...

    with pytest.raises(SignatureError, match=r"see has order_by=: let it take the event"):
        Service("numbers").subscribe(TOPIC, order_by="value")(see)


class Sized(BaseModel, extra="allow"):
    parts: list[int] = []

    @property
    def size(self) -> int:
        return len(self.parts)


@dataclass
class Weight:
    grams: int


def test_a_key_may_be_whatever_an_event_has() -> None:
    Topic("things", Sized, key="size", id="anything")
    Topic("things", Weight, key="grams")
    Topic("things", dict[str, Any], key="any")
    with pytest.raises(UsageError, match="key='weight': Weight has no such field; there are grams"):
        Topic("things", Weight, key="weight")
    with pytest.raises(UsageError, match="id='weight': Weight has no such field"):
        Topic("things", Weight, id="weight")


# -- what a broker cannot do, at the start ---------------------------------------------------------------------


class Unable(MemoryBroker):
    """A broker that lacks something."""

    def __init__(self, lacks: str) -> None:
        super().__init__("memory://unable")
        self.capabilities = replace(MemoryBroker.capabilities, **{"replay": True, lacks: False})

    async def connect(self) -> None:
        raise AssertionError("it is refused before anything is connected")


class Mute(MemoryBroker):
    """A broker that carries no calls."""

    capabilities = replace(MemoryBroker.capabilities, request_reply=False)

    def inbox(self) -> str:
        raise AssertionError("it carries no calls")


LACKING = [(words, name) for words, names in NEEDED for name in sorted(names)]


@pytest.mark.parametrize(("words", "lacks"), LACKING, ids=[f"{name} for {words}" for words, name in LACKING])
async def test_a_service_refuses_to_start_on_a_broker_that_lacks_what_it_needs(
    words: dict[str, Any], lacks: str
) -> None:
    service = Service("numbers", broker=Unable(lacks))
    service.subscribe(TOPIC, name="see", **words)(_see_many if "batch" in words else _see_one)
    with pytest.raises(Unsupported, match=rf"^numbers.see needs {lacks}, which memory://unable lacks; able are .+"):
        await service.start()


async def test_replay_is_refused_by_the_memory_broker_itself() -> None:
    service = Service("numbers", broker="memory://")
    service.subscribe(TOPIC, start="all")(_see_one)
    with pytest.raises(Unsupported, match=r"^numbers._see_one needs replay, which memory:// lacks; able are .+"):
        await service.start()


async def test_all_that_is_missing_is_said_at_once() -> None:
    class Live(MemoryBroker):
        capabilities = Capabilities(queue_groups=True)

    service = Service("numbers", broker=Live())
    service.subscribe("numbers.>", name="see", order_by="value", start="all")(_see_one)
    with pytest.raises(Unsupported, match=r"needs wildcards, durable, ordered, replay, which"):
        await service.start()


@pytest.mark.parametrize(
    ("words", "asked"),
    [
        ({"retry": Retry()}, "retry"),
        ({"ack": "manual"}, "ack='manual'"),
        ({"dead_letter": "lost", "dedupe": 5.0}, "dead_letter, dedupe"),
    ],
)
async def test_a_refusal_of_a_durable_queue_names_the_option_that_asks_for_it(
    words: dict[str, Any], asked: str
) -> None:
    service = Service("numbers", broker=Unable("durable"))
    service.subscribe(TOPIC, **words)(_see_one)
    with pytest.raises(Unsupported, match=f"; a durable queue is asked for by {asked}$"):
        await service.start()


async def test_a_refusal_says_how_more_is_to_be_had_of_the_same_server() -> None:
    broker = Unable("durable")
    broker.capabilities = replace(broker.capabilities, more="where it can more, write more://")
    service = Service("numbers", broker=broker)
    service.subscribe(TOPIC, durable=True)(_see_one)
    with pytest.raises(Unsupported, match=r"; able are .*; where it can more, write more://$"):
        await service.start()


async def test_calls_are_refused_on_a_broker_that_carries_none_and_a_second_broker_is_named() -> None:
    service = Service("numbers", broker=Unable("request_reply"))

    @service.rpc
    async def double(request: int) -> int:
        return 2 * request

    ways = r"rpc_broker=\.\.\.\), --rpc-broker or EVENTMICRO_RPC_BROKER$"
    with pytest.raises(Unsupported, match=r"numbers.double needs request_reply, .*able are .*nats.*" + ways):
        await service.start()


async def test_a_service_without_endpoints_starts_on_a_broker_that_carries_no_calls_and_calls_are_refused() -> None:
    service = Service("numbers", broker=Mute())
    service.subscribe(TOPIC)(_see_one)
    async with service:
        with pytest.raises(Unsupported, match=r"carries no calls .*rpc_broker= or EVENTMICRO_RPC_BROKER"):
            await service.call("other.double", 1, int)


async def test_calls_go_over_the_second_broker_that_is_named() -> None:
    service = Service("numbers", broker=Mute("memory://events"), rpc_broker="memory://calls")

    @service.rpc
    async def double(request: int) -> int:
        return 2 * request

    async with service:
        assert await service.call("numbers.double", 4, int) == 8
