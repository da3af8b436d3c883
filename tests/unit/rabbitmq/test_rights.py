"""Rights that are missing are told once each, and as the command that grants them."""

from __future__ import annotations

import re
import shlex

import pytest
from eventmicro_rabbitmq.rights import MOST_IN_PATTERN, NotAllowed, Right, listing, not_allowed, pattern_of

from eventmicro.checks import as_one
from eventmicro.errors import Missing, UsageError

REFUSED = "ACCESS_REFUSED - {}access to {} '{}' in vhost 'shop' refused for user 'o''brien'"


@pytest.mark.parametrize(("says", "lacks"), [("", ("configure", "read")), ("read ", ("read",))], ids=["3", "4"])
def test_which_right_it_is_says_rabbitmq_4_itself(says: str, lacks: tuple[str, ...]) -> None:
    error = not_allowed(REFUSED.format(says, "queue", "q"), "said", queue=("configure", "read"), exchange=("write",))
    assert isinstance(error, NotAllowed)
    assert (error.lacks, error.vhost) == (tuple(Right(right, "queue", "q") for right in lacks), "shop")


def test_several_are_one_list_and_one_command() -> None:
    errors = [
        not_allowed(REFUSED.format("", kind, name), f"{name} is refused", queue=("read",), exchange=("configure",))
        for kind, name in (("exchange", "events"), ("queue", "q"), ("queue", "amq.gen-1"), ("queue", "amq.gen-2"))
    ]
    text = str(as_one([*errors, errors[0]]))
    assert text.count("is refused") == 1
    assert text.endswith("has no right to configure exchange 'events'; read queue 'q', queue 'amq.gen-*'")
    error = as_one(errors)
    assert isinstance(error, NotAllowed)
    command = str(error.needing([Right("write", "exchange", "amq.default")])).rpartition(": ")[2]
    assert shlex.split(command)[:5] == ["rabbitmqctl", "set_permissions", "-p", "shop", "o''brien"]
    assert shlex.split(command)[5:] == ["^(events)$", r"^(amq\.default)$", r"^(amq\.gen-.*|q)$"]


def test_however_many_there_are_the_text_is_read() -> None:
    rights = [Right("read", "queue", f"orders.{number}") for number in range(1000)]
    assert listing(rights).endswith("queue 'orders.7'; and to 992 more")
    names = [right.name for right in rights]
    assert pattern_of([*names, "orders", "events"]) == r"^(events|orders|orders\..*)$"
    few = pattern_of(names[:MOST_IN_PATTERN])
    assert all(re.fullmatch(few, name) for name in names[:MOST_IN_PATTERN])
    assert not re.fullmatch(few, "ordersx1")
    assert pattern_of([]) == "^$"


def test_errors_of_one_kind_are_said_together_and_not_without_end() -> None:
    assert str(as_one([UsageError(str(number)) for number in range(10)])).endswith("6; 7; and 2 more")
    missing = as_one([Missing("a is missing", ["a"]), Missing("b is missing", ["b"])])
    assert isinstance(missing, Missing)
    assert (str(missing), missing.what) == ("a is missing; b is missing", ("a", "b"))
    assert str(as_one([UsageError("wrong"), Missing("a is missing", ["a"])])) == "wrong; a is missing"
