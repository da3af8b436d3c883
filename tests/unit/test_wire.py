"""wire: names, subjects, headers, content types and the budget in a reply subject."""

from __future__ import annotations

from typing import Any

import pytest

from eventmicro import wire
from eventmicro.errors import UsageError

NAMES = [
    ("orders", True),
    ("Orders-2_x", True),
    ("", False),  # nothing
    ("a.b", False),  # a dot would make it a subject
    ("a b", False),  # a space
    ("a*", False),  # a wildcard
    ("größe", False),  # beyond ASCII
    ("a\n", False),  # a line break at the end, which `$` in a pattern would let through
]


@pytest.mark.parametrize(("name", "good"), NAMES)
def test_a_name_is_of_letters_digits_underscore_and_hyphen(name: str, good: bool) -> None:
    if good:
        assert wire.check_name(name, "service") == name
        return
    with pytest.raises(UsageError, match=r"service name .* write letters"):
        wire.check_name(name, "service")


SUBJECTS = [
    # subject, fine to publish to, fine to subscribe to
    ("orders", True, True),
    ("orders.placed.v2", True, True),
    ("$SRV.PING", True, True),
    ("", False, False),
    (".", False, False),
    ("orders.", False, False),
    (".orders", False, False),
    ("orders..placed", False, False),
    ("orders placed", False, False),
    ("orders.\tplaced", False, False),
    ("orders.placed\n", False, False),
    ("orders.\x7f", False, False),
    ("*", False, True),
    ("orders.*", False, True),
    ("*.placed", False, True),
    ("orders.>", False, True),
    (">", False, True),
    (">.placed", False, False),  # the rest stands only at the end
    ("orders.>.x", False, False),
    ("orders.pl*", False, False),  # a wildcard is a whole token
    ("orders.>>", False, False),
    ("orders.**", False, False),
    ("orders.größe", True, True),
    ("orders.\udcff", False, False),  # half of a surrogate pair, which no encoding has
]


@pytest.mark.parametrize(("subject", "publish", "subscribe"), SUBJECTS)
def test_a_subject_is_tokens_with_dots_between(subject: str, publish: bool, subscribe: bool) -> None:
    for wildcards, good in ((False, publish), (True, subscribe)):
        if good:
            assert wire.check_subject(subject, wildcards=wildcards) == subject
        else:
            with pytest.raises(UsageError, match="subject "):
                wire.check_subject(subject, wildcards=wildcards)


BUDGETS = [
    ("_INBOX.x.7.1500ms", 1.5),
    ("_INBOX.x.7.1ms", 0.001),
    ("250ms", 0.25),
    ("_INBOX.x.7", None),  # a foreign client says nothing
    ("", None),
    ("ms", None),
    ("_INBOX.ms", None),
    ("_INBOX.x.ms", None),
    ("_INBOX.-5ms", None),
    ("_INBOX.1.5xms", None),
    ("_INBOX.1e3ms", None),
    ("_INBOX.²ms", None),  # a digit, but no decimal one
    ("_INBOX." + "9" * 11 + "ms", 99_999_999.999),
    ("_INBOX." + "9" * 12 + "ms", None),  # over three thousand years
    ("_INBOX." + "9" * 9999 + "ms", None),
]


@pytest.mark.parametrize(("reply", "seconds"), BUDGETS, ids=[r[:24] for r, _ in BUDGETS])
def test_the_budget_is_read_from_the_reply_subject(reply: str, seconds: float | None) -> None:
    assert wire.budget_of(reply) == seconds


@pytest.mark.parametrize(("seconds", "token"), [(1.5, "1500ms"), (0.0004, "1ms"), (5, "5000ms"), (0.0, "1ms")])
def test_a_budget_is_written_in_whole_milliseconds_and_never_as_none(seconds: float, token: str) -> None:
    assert wire.with_budget("inbox.7", seconds) == f"inbox.7.{token}"
    assert wire.budget_of(wire.with_budget("inbox.7", seconds)) is not None


METADATA: list[tuple[dict[Any, Any], str]] = [
    ({"a b": "x"}, "metadata name 'a b'"),
    ({"a:": "x"}, "metadata name"),
    ({"": "x"}, "metadata name ''"),
    ({"größe": "x"}, "metadata name"),
    ({"a\r\nb": "x"}, "metadata name"),
    ({7: "x"}, "metadata name 7"),
    ({"a": 7}, "'a' is a int: values are strings"),
    ({"a": None}, "'a' is a NoneType"),
    ({"a": "x\nEvil: y"}, "'a' has a line break"),
    ({"a": "x\r"}, "'a' has a line break"),
    ({"a": "größe \ud83d"}, "'a': half of a surrogate pair"),
]


@pytest.mark.parametrize(("metadata", "words"), METADATA)
def test_metadata_that_cannot_be_a_header_is_refused(metadata: dict[Any, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        wire.check_headers(metadata)


def test_metadata_is_copied_so_that_the_callers_own_dict_stays_as_it_is() -> None:
    mine = {"X-Tenant": "größer", "traceparent": ""}
    copy = wire.check_headers(mine)
    assert copy == mine
    assert copy is not mine


def test_a_header_is_found_whatever_its_case() -> None:
    assert wire.header({"nats-service-ERROR": "x"}, wire.ERROR) == "x"
    assert wire.header({"A": "1", "a": "2"}, "A") == "1"
    assert wire.header({}, "A") is None
    assert wire.header(None, "A") is None


CONTENT_TYPES = [
    ({"Content-Type": "application/json"}, "application/json"),
    ({"content-type": "Application/JSON; charset=utf-8"}, "application/json"),
    ({"Content-Type": ""}, None),
    ({"Other": "x"}, None),
    (None, None),
]


@pytest.mark.parametrize(("headers", "expected"), CONTENT_TYPES)
def test_a_content_type_is_read_without_parameters_and_in_lower_case(
    headers: dict[str, str] | None, expected: str | None
) -> None:
    assert wire.content_type(headers) == expected


DETAILS = [
    ("no such order", "no such order"),
    ("two\nlines\r\nhere", "two lines here"),  # a line break would end the header
    ("größer", "gr??er"),
    ("", "error"),  # empty would be no error to an ADR-32 client
    (" \n ", "error"),
    ("x" * 1000, "x" * 200),
]


@pytest.mark.parametrize(("detail", "line"), DETAILS, ids=[d[:10] for d, _ in DETAILS])
def test_the_error_header_is_one_short_line_of_ascii(detail: str, line: str) -> None:
    assert wire.error_headers(404, detail) == {"Nats-Service-Error": line, "Nats-Service-Error-Code": "404"}


def test_subjects_of_a_service_are_its_name_and_the_endpoints() -> None:
    assert wire.endpoint_subject("orders", "quote") == "orders.quote"
    assert wire.cancel_subject("orders") == "orders.$cancel"
    with pytest.raises(UsageError):  # so no endpoint can take the cancel subject
        wire.check_name("$cancel", "endpoint")


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("größer 漢", "größer 漢"),
        ("a\nb\r\x00", "a\\nb\\r\\x00"),
        ("\x1b[2J\x9b31m", "\\x1b[2J\\x9b31m"),
        ("\u2028\u202e\ud800", "\\u2028\\u202e\\ud800"),
        ("x" * 11, "x" * 10 + "…"),
    ],
)
def test_what_a_peer_has_made_up_is_one_line_of_a_log(text: str, line: str) -> None:
    assert wire.one_line(text, 10) == line
