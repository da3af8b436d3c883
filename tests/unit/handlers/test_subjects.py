"""subjects: named tokens of a subject as parameters of a handler, and of a topic to publish to."""

from __future__ import annotations

import asyncio
import enum
import uuid
from typing import Annotated, Any

import pytest
from pydantic import BaseModel, Field

from eventmicro import Context, MemoryBroker, Service, SignatureError, Topic, Unsupported, UsageError
from eventmicro.broker import Capabilities
from eventmicro.events.declare import declare_subscriber
from eventmicro.events.options import Batch
from eventmicro.tokens import read_template

URL = "memory://subjects"


class Level(enum.Enum):
    INFO = "info"
    ERROR = "error"


class Line(BaseModel):
    text: str = ""


LOGS = Topic("logs.{level}.{host}", Line)
Small = Annotated[int, Field(lt=10)]


async def counted(seen: list[Any], count: int) -> list[Any]:
    while len(seen) < count:
        await asyncio.sleep(0.001)
    return seen


async def test_tokens_are_parameters_with_their_types() -> None:
    service, seen, tenant = Service("logs", broker=URL), list[Any](), uuid.uuid4()

    @service.subscribe("tenants.{id}.logs.{level}.{number}.>")
    async def look(line: Line, level: Level, id: uuid.UUID, context: Context, *, number: Small) -> None:
        seen.append((line.text, level, id, number, context.topic.rpartition(".")[2]))

    @service.subscribe(LOGS)
    def plain(host: str, level: Level) -> None:
        seen.append((host, level))

    async with service:
        await service.publish(f"tenants.{tenant}.logs.error.7.rest.more", Line(text="a"))
        assert await counted(seen, 1) == [("a", Level.ERROR, tenant, 7, "more")]
        await service.publish(LOGS.at(level=Level.INFO, host="web-1"), Line())
        assert await counted(seen, 2) == [("a", Level.ERROR, tenant, 7, "more"), ("web-1", Level.INFO)]


@pytest.mark.parametrize("durable", [True, False])
async def test_a_token_that_does_not_fit_is_a_dead_letter_at_once_and_the_next_goes_on(
    durable: bool, caplog: pytest.LogCaptureFixture
) -> None:
    service, seen, letters = Service("logs", broker=URL), list[Any](), list[Any]()

    @service.subscribe("logs.{level}", durable=durable)
    async def look(level: Level) -> None:
        seen.append(level)

    @service.subscribe("dead.logs.look")
    async def letter(context: Context) -> None:
        letters.append((context.metadata["Dead-Letter-Reason"], context.metadata["Dead-Letter-Attempts"]))

    async with service:
        await service.publish("logs.loud", Line())
        await service.publish("logs.error", Line())
        assert await counted(seen, 1) == [Level.ERROR]
        reason = "level in its subject, logs.loud: Input should be 'info' or 'error'"
        if durable:
            assert await counted(letters, 1) == [(f"rejected: {reason}", "1")]
        else:
            assert f"event on logs.loud is gone: WrongSubject: {reason}" in caplog.text
        statistics = await service.client.call("logs.health", None, dict[str, Any])
        assert statistics


async def test_a_topic_is_filled_in_to_publish() -> None:
    error = LOGS.at(level=Level.ERROR, host="web-1")
    assert (error.name, error.type, error.subject) == ("logs.error.web-1", Line, "logs.error.web-1")
    assert LOGS.at(level="error", host="web-1") is error
    assert (LOGS.name, LOGS.subject) == ("logs.{level}.{host}", "logs.*.*")
    keyed = Topic("orders.{region}", Line, key="text", id="text", content_type="msgpack")
    filled = keyed.at(region="eu")
    assert (filled.key, filled.id, filled.content_type, filled.pick_key) == (
        "text",
        "text",
        "msgpack",
        keyed.pick_key,
    )


def test_subjects_that_were_filled_in_are_kept_up_to_a_number() -> None:
    topic = Topic("orders.{id}", Line)
    for number in range(5_000):
        topic.at(id=number)
    assert len(topic._filled) == 4_096


FILLED: list[tuple[dict[str, Any], str]] = [
    ({}, "takes level=..., host=..., and was given nothing"),
    ({"level": "a"}, "takes level=..., host=..., and was given level"),
    ({"level": "a", "host": "b", "more": "c"}, "was given level, host, more"),
    ({"level": "a", "host": "web.1"}, "host='web.1': a dot would begin the next token"),
    ({"level": "a", "host": ""}, "host='' is no token of a subject"),
    ({"level": "a", "host": "*"}, r"host='\*' is no token of a subject"),
    ({"level": "a", "host": "a b"}, "host='a b' is no token of a subject"),
    ({"level": "a", "host": None}, "host=None: a token of a subject is a text, a number, an Enum, a UUID or a date"),
    ({"level": "a", "host": 1.5}, "host=1.5: a token of a subject is a text"),
]


@pytest.mark.parametrize(("tokens", "words"), FILLED)
def test_what_is_no_token_is_refused_where_it_is_filled_in(tokens: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        LOGS.at(**tokens)


async def test_a_topic_that_is_not_filled_in_is_no_place_to_publish_to() -> None:
    async with Service("logs", broker=URL) as service:
        with pytest.raises(UsageError, match=r"has named tokens: publish to TOPIC.at\(level=..., host=...\)"):
            await service.publish(LOGS, Line())
        with pytest.raises(UsageError, match=r"'logs.\{level\}' has named tokens"):
            await service.publish("logs.{level}", Line())
        with pytest.raises(UsageError, match="has no named tokens"):
            Topic("logs.error", Line).at(level="a")


@pytest.mark.parametrize("subject", ["logs.x{level}", "logs.{level}x", "logs.{}", "logs.{a b}", "{a}.{a}", "logs.{9}"])
def test_a_name_that_is_none_is_refused(subject: str) -> None:
    with pytest.raises(UsageError, match=r"stands for one whole token|is no name of its own|tokens with dots between"):
        Topic(subject, Line)
    with pytest.raises(UsageError):
        Service("logs").subscribe(subject)(nothing)


async def nothing() -> None: ...
async def level(level: str) -> None: ...
async def misspelt(line: Line, levle: str) -> None: ...
async def model(level: Line) -> None: ...
async def many(lines: list[Line], level: str) -> None: ...


REFUSED: list[tuple[Any, Any, dict[str, Any], str]] = [
    ("logs.{level}", nothing, {}, "nothing takes level of the subject .*: write a parameter of that name, such as"),
    ("logs.{level}", misspelt, {}, "nothing takes level of the subject"),
    (LOGS, misspelt, {}, "line, levle would be the fields .*; of its subject it may take level, host"),
    ("logs.{level}", model, {}, "'level' is {level} of the subject, so a str, an int, an Enum or a UUID"),
    (LOGS, many, {"batch": Batch()}, "has batch=, whose events have a subject each: leave level out"),
]


@pytest.mark.parametrize(("topic", "function", "options", "words"), REFUSED)
def test_what_cannot_be_a_parameter_is_refused_with_what_to_write(
    topic: Any, function: Any, options: dict[str, Any], words: str
) -> None:
    with pytest.raises(SignatureError, match=words):
        declare_subscriber("logs", topic, function, **options)


async def test_a_broker_without_wildcards_refuses_at_the_start() -> None:
    class Plain(MemoryBroker):
        capabilities = Capabilities(request_reply=True, queue_groups=True, broadcast=True, durable=True)

    service = Service("logs", broker=Plain("memory://plain"))
    service.subscribe("logs.{level}")(level)
    with pytest.raises(Unsupported, match=r"logs.level needs wildcards, which memory://plain lacks"):
        await service.start()


def test_a_subject_without_braces_has_no_template() -> None:
    assert read_template("logs.error") is None
    assert declare_subscriber("logs", LOGS, nothing).subject == "logs.*.*"
