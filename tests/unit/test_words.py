"""A wrong option is told with the options that there are, wherever something is made."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from eventmicro import Batch, CallRetry, Client, Compression, Publishing, Retry, Service, Topic, UsageError
from eventmicro.middlewares import CircuitBreaker, RateLimit, ReplyCache

Make = Callable[..., Any]


@pytest.mark.parametrize(
    ("make", "wrong", "meant"),
    [
        (CallRetry, {"attempt": 3}, "attempts"),
        (Retry, {"attempt": 3}, "attempts"),
        (Batch, {"siz": 3}, "size"),
        (Publishing, {"timeot": 3}, "timeout"),
        (Compression, {"treshold": 3}, "threshold"),
        (CircuitBreaker, {"treshold": 3}, "threshold"),
        (lambda **words: RateLimit(5, **words), {"bust": 3}, "burst"),
        (ReplyCache, {"tll": 3}, "ttl"),
        (lambda **words: Topic("placed", int, **words), {"keys": "a"}, "key"),
        (lambda **words: Client("memory://", **words), {"retries": 3}, "retry"),
        (lambda **words: Service("shop", **words), {"retries": 3}, "retry"),
    ],
)
def test_a_wrong_word_names_what_is_meant_and_all_there_are(make: Make, wrong: dict[str, Any], meant: str) -> None:
    with pytest.raises(UsageError) as refused:
        make(**wrong)
    assert f"did you mean {meant!r}? It takes " in str(refused.value)
    assert isinstance(refused.value, TypeError)  # as who knows Python expects


@pytest.mark.parametrize("decorate", [Service("a").rpc, Service("b").rpc()])
def test_a_decorator_lists_its_words(decorate: Any) -> None:
    with pytest.raises(UsageError, match="there are name, timeout, concurrency, middleware, internal, idempotent"):
        Service("c").rpc(retry=3)(decorate)  # type: ignore[call-overload]


def test_too_many_and_too_few_name_them_too() -> None:
    with pytest.raises(UsageError, match="too many positional arguments; it takes attempts, "):
        CallRetry(3)  # type: ignore[misc]
    with pytest.raises(UsageError, match="missing a required argument: 'name'; it takes name, version"):
        Service()  # type: ignore[call-arg]


def test_a_type_error_of_what_is_given_is_no_matter_of_words() -> None:
    class Odd(str):
        def __eq__(self, other: object) -> bool:
            raise TypeError("mine")

        __hash__ = str.__hash__

    with pytest.raises(TypeError, match="mine") as raised:
        Service(Odd("shop"), needs=["x", "shop"])
    assert not isinstance(raised.value, UsageError)
