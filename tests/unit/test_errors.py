"""errors: the tree, the words of a class as its default message, and the form in which a ServiceError travels."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from eventmicro import errors
from eventmicro.errors import (
    CallTimeout,
    DecodeError,
    EventMicroError,
    Nack,
    NotFound,
    ServiceError,
    TooManyRequests,
    UsageError,
)

STATUS_CODES = [
    (400, "BadRequest", False),
    (401, "Unauthorized", False),
    (403, "Forbidden", False),
    (404, "NotFound", False),
    (408, "CallTimeout", False),
    (409, "Conflict", False),
    (415, "UnsupportedMediaType", False),
    (429, "TooManyRequests", True),
    (500, "InternalError", False),
    (503, "Unavailable", True),
]


@pytest.mark.parametrize("delay", ["5", -1, float("nan"), float("inf"), True, b"5"], ids=repr)
def test_a_nack_refuses_a_delay_that_is_none(delay: Any) -> None:
    with pytest.raises(UsageError, match=r"^delay=.+: write seconds, 0 or more; a reason is message=\.\.\.$"):
        Nack(delay)


def test_a_nack_keeps_its_delay_and_its_reason() -> None:
    assert [Nack().delay, Nack(0).delay, Nack(2.5).delay] == [None, 0, 2.5]
    assert Nack(message="not today").reason == "not today"


def every_class() -> list[type[EventMicroError]]:
    return [e for e in vars(errors).values() if isinstance(e, type) and issubclass(e, EventMicroError)]


@pytest.mark.parametrize("kind", every_class(), ids=lambda kind: kind.__name__)
def test_every_error_is_one_of_the_tree_and_is_named_in_its_drawing(kind: type[EventMicroError]) -> None:
    assert kind.__name__ in (errors.__doc__ or "")
    assert kind.__doc__


@pytest.mark.parametrize("kind", [e for e in every_class() if not issubclass(e, ServiceError)])
def test_an_error_without_a_message_says_what_its_class_means(kind: type[EventMicroError]) -> None:
    assert str(kind()) == (kind.__doc__ or "").split("\n")[0]
    assert str(kind(message="mine")) == "mine"


@pytest.mark.parametrize(("code", "name", "retryable"), STATUS_CODES)
def test_a_code_has_its_class_on_both_sides_of_the_bus(code: int, name: str, retryable: bool) -> None:
    kind = getattr(errors, name)
    sent = kind("what happened", id="orders.quote")
    got = ServiceError.from_json(sent.to_json(), code=code, detail="", id="")
    assert type(got) is kind
    assert (got.code, got.detail, got.id, got.retryable) == (code, "what happened", "orders.quote", retryable)


def test_a_code_without_a_class_travels_as_a_service_error_with_that_code() -> None:
    got = ServiceError.from_json(ServiceError("tea", code=418).to_json(), code=418, detail="", id="pot.brew")
    assert (type(got), got.code, got.status, got.detail) == (ServiceError, 418, "I'm a Teapot", "tea")


def test_a_code_unknown_to_http_has_no_words() -> None:
    assert ServiceError("x", code=799).status == ""


@pytest.mark.parametrize("seconds", [0, 0.25, 7])
def test_when_to_come_again_travels(seconds: float) -> None:
    error = TooManyRequests("busy", retry_after=seconds)
    assert json.loads(error.to_json())["retry_after"] == seconds
    assert ServiceError.from_json(error.to_json(), code=429, detail="", id="").retry_after == seconds
    assert "retry_after" not in json.loads(TooManyRequests("busy").to_json())


@pytest.mark.parametrize("said", ["-1", "true", '"soon"', "1e999", "[]", "null"])
def test_what_a_foreign_service_says_of_it_that_is_no_time_is_not_believed(said: str) -> None:
    body = f'{{"detail": "busy", "retry_after": {said}}}'.encode()
    assert ServiceError.from_json(body, code=429, detail="", id="").retry_after is None


@pytest.mark.parametrize("seconds", [-1, True, "1", float("inf"), float("nan")])
def test_a_time_that_is_none_is_refused(seconds: Any) -> None:
    with pytest.raises(UsageError, match=r"retry_after=.*: write seconds, 0 or more"):
        TooManyRequests("busy", retry_after=seconds)


def test_retryable_can_be_said_for_one_error_only() -> None:
    assert not TooManyRequests("x", retryable=False).retryable
    assert TooManyRequests("x").retryable
    got = ServiceError.from_json(NotFound("x", retryable=True).to_json(), code=404, detail="", id="")
    assert got.retryable


def test_the_travelling_form_has_all_keys_and_errors_only_where_there_are_some() -> None:
    form = json.loads(NotFound("no such order").to_json("orders.find"))
    assert form == {
        "id": "orders.find",
        "code": 404,
        "detail": "no such order",
        "status": "Not Found",
        "retryable": False,
    }
    entry = {"loc": ["sku"], "msg": "Field required", "type": "missing"}
    assert json.loads(ServiceError("x", errors=[entry]).to_json())["errors"] == [entry]


def test_its_own_id_goes_before_that_of_the_endpoint() -> None:
    assert json.loads(NotFound("x", id="stock.find").to_json("orders.quote"))["id"] == "stock.find"


FOREIGN_BODIES: list[tuple[bytes, str]] = [
    (b"", "empty"),
    (b"no json", "no JSON"),
    (b"\xff\xfe", "no text at all"),
    (b"[1, 2]", "another JSON form"),
    (b"null", "nothing"),
    (b"{}", "an object that says nothing"),
    (b'{"detail": null, "id": 0, "errors": 5}', "keys of other types"),
    (b'{"errors": [1, null, "x"]}', "errors that are no objects"),
    (b"[" * 100_000, "nested without end"),
    (b"1" * 10_000, "a number without end"),
]


@pytest.mark.parametrize(("body", "what"), FOREIGN_BODIES, ids=[what for _, what in FOREIGN_BODIES])
def test_whatever_a_foreign_service_puts_into_an_error_becomes_an_error(body: bytes, what: str) -> None:
    got = ServiceError.from_json(body, code=404, detail="header's words", id="orders.quote")
    assert (type(got), got.detail, got.id, list(got.errors)) == (NotFound, "header's words", "orders.quote", [])
    assert "orders.quote: 404 Not Found: header's words" in str(got)


def test_the_words_of_an_error_name_place_code_and_wrong_fields() -> None:
    wrong: list[dict[str, Any]] = [{"loc": ["items", 0, "sku"], "msg": "Field required"}, {"loc": [], "msg": "odd"}]
    error = errors.BadRequest("the request is wrong", id="orders.quote", errors=wrong)
    assert (
        str(error) == "orders.quote: 400 Bad Request: the request is wrong (items.0.sku: Field required; the body: odd)"
    )


@pytest.mark.parametrize("loc", [5, None, True], ids=repr)
def test_errors_of_a_foreign_service_with_a_strange_place_can_still_be_printed(loc: Any) -> None:
    body = json.dumps({"errors": [{"loc": loc, "msg": "odd"}]}).encode()
    assert "odd" in str(ServiceError.from_json(body, code=400, detail="d", id="a.b"))


@pytest.mark.parametrize("detail", [7, None, ValueError("inner")])
def test_a_detail_that_is_no_string_travels_as_its_words(detail: Any) -> None:
    assert json.loads(NotFound(detail).to_json())["detail"] == str(detail)


def test_errors_that_json_cannot_hold_travel_as_their_words() -> None:
    moment = datetime(2026, 1, 1, tzinfo=UTC)
    form = json.loads(NotFound("x", errors=[{"loc": [], "since": moment}]).to_json())
    assert form["errors"][0]["since"] == str(moment)


def test_a_call_timeout_is_caught_as_a_timeout_error_too() -> None:
    with pytest.raises(TimeoutError):
        raise CallTimeout("late")
    assert CallTimeout("late").elapsed == 0.0


def test_a_decode_error_lists_what_is_wrong_or_nothing() -> None:
    assert DecodeError().errors == ()
    assert DecodeError("x", [{"loc": ["a"]}]).errors == [{"loc": ["a"]}]
