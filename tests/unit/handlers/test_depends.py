"""depends: what is made for a handler, how often, in which order, and how it is cleaned up."""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Annotated, Any

import pytest

from eventmicro.context import Context, Side
from eventmicro.errors import SignatureError
from eventmicro.handlers.depends import Depends
from eventmicro.handlers.signature import read_signature

log: list[str] = []


@pytest.fixture(autouse=True)
def empty_log() -> None:
    log.clear()


def made_by(function: Callable[..., Any]) -> Any:
    """A dependency as a default, which type checkers take as any value."""
    return Depends(function)


async def run(handler: Callable[..., Any], message: Any = "m", overrides: Any = None) -> Any:
    compiled = read_signature(handler, "endpoint").compile(overrides)
    return await compiled(message, Context(Side.ENDPOINT, state="state"))


def plain() -> str:
    log.append("plain")
    return "plain"


async def waited() -> str:
    log.append("waited")
    return "waited"


def yielded() -> Iterator[str]:
    log.append("yielded in")
    try:
        yield "yielded"
    finally:
        log.append("yielded out")


async def async_yielded() -> AsyncIterator[str]:
    log.append("async yielded in")
    try:
        yield "async yielded"
    finally:
        log.append("async yielded out")


class PlainCallable:
    def __call__(self) -> str:
        return "object"


class AsyncCallable:
    async def __call__(self) -> str:
        return "async object"


class Settings:
    def __init__(self, name: str = "settings") -> None:
        self.name = name

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Settings) and self.name == other.name


async def named(name: str) -> str:
    return name


KINDS: list[tuple[Callable[..., Any], Any]] = [
    (plain, "plain"),
    (waited, "waited"),
    (yielded, "yielded"),
    (async_yielded, "async yielded"),
    (lambda: "lambda", "lambda"),
    (PlainCallable(), "object"),
    (AsyncCallable(), "async object"),
    (Settings, Settings()),
    (functools.partial(named, "partial"), "partial"),
    (dict, {}),
]


@pytest.mark.parametrize(("function", "value"), KINDS)
async def test_any_function_may_make_a_dependency(function: Callable[..., Any], value: Any) -> None:
    async def handler(message: str, made: Any = made_by(function)) -> Any:  # noqa: B008
        return message, made

    assert await run(handler) == ("m", value)


async def test_it_may_be_written_as_annotation_or_as_default_anywhere_in_the_signature() -> None:
    async def handler(
        first: Annotated[str, Depends(plain)], message: str, context: Context, *, last: str = made_by(waited)
    ) -> Any:
        return first, message, context.state, last

    assert await run(handler) == ("plain", "m", "state", "waited")


async def test_a_handler_may_take_nothing_at_all_or_a_dependency_only() -> None:
    async def nothing() -> str:
        return "nothing"

    async def one(value: Annotated[str, Depends(plain)]) -> str:
        return value

    async def context_only(*, context: Context) -> Any:
        return context.state

    assert [await run(nothing), await run(one), await run(context_only)] == ["nothing", "plain", "state"]


def with_context(context: Context, other: Annotated[str, Depends(plain)], extra: int = 3) -> str:
    return f"{context.state}+{other}+{extra}"


def positional(context: Context, /, other: Annotated[str, Depends(plain)], *rest: Any, **more: Any) -> str:
    return f"{context.state}/{other}"


async def test_a_dependency_may_take_the_context_and_dependencies_of_its_own() -> None:
    async def handler(one: Annotated[str, Depends(with_context)], two: Annotated[str, Depends(positional)]) -> Any:
        return one, two

    assert await run(handler) == ("state+plain+3", "state/plain")


def uses_plain(value: Annotated[str, Depends(plain)]) -> str:
    return f"of {value}"


async def test_within_one_message_it_is_made_once_and_for_the_next_one_again() -> None:
    async def handler(
        one: Annotated[str, Depends(plain)], two: Annotated[str, Depends(uses_plain)], again: str = made_by(plain)
    ) -> Any:
        return one, two, again

    compiled = read_signature(handler, "endpoint").compile()
    for _ in range(2):
        assert await compiled("m", Context(Side.ENDPOINT)) == ("plain", "of plain", "plain")
    assert log == ["plain", "plain"]


async def test_what_was_made_last_is_cleaned_up_first_after_the_handler() -> None:
    async def handler(one: Annotated[str, Depends(yielded)], two: Annotated[str, Depends(async_yielded)]) -> str:
        log.append("handler")
        return "done"

    assert await run(handler) == "done"
    assert log == ["yielded in", "async yielded in", "handler", "async yielded out", "yielded out"]


async def test_what_was_made_is_cleaned_up_where_the_handler_fails() -> None:
    async def handler(one: Annotated[str, Depends(yielded)], two: Annotated[str, Depends(async_yielded)]) -> str:
        raise LookupError("no")

    with pytest.raises(LookupError, match="no"):
        await run(handler)
    assert log == ["yielded in", "async yielded in", "async yielded out", "yielded out"]


def broken() -> str:
    raise OSError("disk")


async def test_what_was_made_is_cleaned_up_where_the_next_dependency_fails_and_the_handler_is_not_run() -> None:
    async def handler(one: Annotated[str, Depends(yielded)], two: Annotated[str, Depends(broken)]) -> str:
        raise AssertionError("must not run")

    with pytest.raises(OSError, match="disk"):
        await run(handler)
    assert log == ["yielded in", "yielded out"]


async def seeing() -> AsyncIterator[str]:
    try:
        yield "x"
    except LookupError as error:
        log.append(f"rolled back for {error.args[0]}")
        raise


async def test_a_dependency_sees_how_the_handler_failed() -> None:
    async def handler(one: Annotated[str, Depends(seeing)]) -> str:
        raise LookupError("no")

    with pytest.raises(LookupError):
        await run(handler)
    assert log == ["rolled back for no"]


async def test_an_override_stands_in_wherever_the_dependency_is_asked_for() -> None:
    async def handler(one: Annotated[str, Depends(plain)], two: Annotated[str, Depends(uses_plain)]) -> Any:
        return one, two

    async def fake() -> str:
        return "fake"

    assert await run(handler, overrides={plain: fake}) == ("fake", "of fake")
    assert await run(handler, overrides={uses_plain: fake}) == ("plain", "fake")
    assert await run(handler) == ("plain", "of plain")


async def test_an_override_may_clean_up_where_the_original_does_not() -> None:
    async def handler(one: Annotated[str, Depends(plain)]) -> str:
        return one

    assert await run(handler, overrides={plain: async_yielded}) == "async yielded"
    assert log == ["async yielded in", "async yielded out"]


def egg() -> str:
    return "egg"


def hen(value: Annotated[str, Depends(egg)]) -> str:
    return value


def test_dependencies_in_a_circle_are_refused_with_the_circle() -> None:
    async def handler(one: Annotated[str, Depends(hen)]) -> str:
        return one

    with pytest.raises(SignatureError, match="dependencies in a circle: hen -> hen"):
        read_signature(handler, "endpoint").compile({egg: hen})


def untyped(value) -> str:  # type: ignore[no-untyped-def]
    return str(value)


def wants_message(value: str) -> str:
    return value


def names_unknown(value: NoSuchName) -> str:  # type: ignore[name-defined]  # noqa: F821
    return str(value)


REFUSED = [
    (untyped, "dependency untyped: parameter 'value' is neither a Context nor a dependency"),
    (wants_message, "dependency wants_message: parameter 'value' is neither"),
    (names_unknown, "names_unknown: cannot find 'NoSuchName', which an annotation names"),
]


@pytest.mark.parametrize(("function", "words"), REFUSED)
def test_a_dependency_whose_parameters_cannot_be_filled_is_refused(function: Callable[..., Any], words: str) -> None:
    async def handler(one: Any = made_by(function)) -> str:  # noqa: B008
        return str(one)

    with pytest.raises(SignatureError, match=words):
        read_signature(handler, "endpoint").compile()


class YieldingObject:
    async def __call__(self) -> AsyncIterator[str]:
        yield "object"


async def test_an_object_whose_call_yields_is_cleaned_up_like_a_function() -> None:
    async def handler(one: Any = made_by(YieldingObject())) -> Any:  # noqa: B008
        return one

    assert await run(handler) == "object"
