"""What goes before what, for each setting there is: the service's own, code, environment, file, default."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from eventmicro import Client, Compression, DeliveryOptions, Publishing, Service
from eventmicro.configuration.effective import effective
from eventmicro.configuration.known import CLIENT, IN_CODE, SERVICE, names
from eventmicro.configuration.reading import Group
from eventmicro.configuration.words import AT_START, read_words
from eventmicro.retry import CallRetry
from eventmicro.sources import FILE_VARIABLE, variable_of

Set = Callable[[str, str], None]

# Two values that each setting can have, as they are written in the environment; of others 3 and 4 will do.
SAMPLES = {
    "broker": ("memory://one", "memory://two"),
    "rpc_broker": ("memory://one", "memory://two"),
    "registry": ("memory", "none"),
    "content_type": ("application/json", "application/protobuf"),
    "compression": ("none", "none"),
    "compression.encoding": ("gzip", "gzip"),
    "selector": ("random", "newest"),
    "large": ("stream", "none"),
    "publishing.while_away": ("fail", "buffer"),
    "forward": ("x-one", "x-two"),
    "version": ("1.0.0", "2.0.0"),
    "description": ("one", "two"),
    "metadata": ("zone=one", "zone=two"),
    "id": ("one", "two"),
    "delivery.durable": ("true", "false"),
    "delivery.transactional": ("true", "false"),
    "delivery.ack": ("before", "manual"),
    "delivery.retry": ("none", "none"),
    "delivery.batch": ("none", "none"),
    "delivery.dead_letter": ("dead.one", "false"),
    "delivery.order_by": ("one", "two"),
    "delivery.sticky_by": ("one", "two"),
    "delivery.prefetch": ("300", "400"),
    "delivery.start": ("all", "new"),
    "register_required": ("true", "false"),
    "needs": ("one", "two"),
    "retry": ("none", "none"),
}
NAMES = names(SERVICE)


@pytest.fixture(autouse=True)
def _nothing_said(monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    for name in [name for name in os.environ if name.startswith("EVENTMICRO_")]:
        monkeypatch.delenv(name)


@pytest.fixture
def in_environment(monkeypatch: pytest.MonkeyPatch) -> Set:
    return lambda name, value: monkeypatch.setenv(variable_of(*name.split(".")), value)


@pytest.fixture
def in_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Set:
    lines: list[str] = []

    def write(name: str, value: str) -> None:
        lines.append(f'{name} = "{value}"\n')
        file = tmp_path / f"{len(lines)}.toml"
        file.write_text("".join(lines))
        monkeypatch.setenv(FILE_VARIABLE, str(file))

    return write


def samples(name: str) -> tuple[str, str]:
    return SAMPLES.get(name, ("3", "4"))


def shown(name: str, **code: Any) -> tuple[str, str]:
    """What holds for a setting of the service `shop`, and where that is said."""
    rows = {row.name: row for row in effective(code, "shop", Service)}
    return rows[name].shown, rows[name].where


def test_each_word_of_a_service_and_a_client_is_a_setting_or_one_that_only_code_can_say() -> None:
    assert {*SERVICE, *IN_CODE} == set(inspect.signature(Service).parameters)
    assert {*CLIENT, *IN_CODE} >= set(inspect.signature(Client).parameters)
    assert set(CLIENT) <= set(inspect.signature(Client).parameters)


@pytest.mark.parametrize(
    ("name", "kind", "in_code"),
    [
        ("retry", CallRetry, {"on"}),
        ("compression", Compression, set()),
        ("publishing", Publishing, set()),
        ("delivery", DeliveryOptions, {"queue", "exchange"}),
    ],
)
def test_each_part_of_a_group_is_a_setting_but_for_functions_and_objects(
    name: str, kind: type, in_code: set[str]
) -> None:
    group = SERVICE[name]
    assert isinstance(group, Group)
    assert {*group.parts, *in_code} == {field.name for field in fields(kind)}


@pytest.mark.parametrize("name", NAMES)
def test_the_environment_goes_before_the_file_and_a_service_s_own_before_both(
    name: str, in_environment: Set, in_file: Set
) -> None:
    one, two = samples(name)
    in_file(name, one)
    assert shown(name) == (one, "1.toml:1")
    in_environment(name, two)
    assert shown(name) == (two, variable_of(*name.split(".")))
    in_file(f"services.shop.{name}", one)
    assert shown(name) == (one, "2.toml:2")
    in_environment(f"services.shop.{name}", two)
    assert shown(name) == (two, variable_of("services", "shop", *name.split(".")))


@pytest.mark.parametrize("name", NAMES)
def test_code_goes_before_what_is_said_for_all_and_behind_what_is_said_for_it(
    name: str, in_environment: Set, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = samples(name)
    word = name.partition(".")[0]
    in_environment(f"services.shop.{name}", one)
    code, _ = read_words({}, "shop", is_service=True)
    monkeypatch.delenv(variable_of("services", "shop", *name.split(".")))

    in_environment(name, two)
    if name != "metadata":  # whose labels are each by itself
        assert shown(name, **{word: code[word]}) == (one, "code")
    in_environment(f"services.shop.{name}", two)
    assert shown(name, **{word: code[word]})[0] == two


@pytest.mark.parametrize("name", NAMES)
def test_a_service_takes_what_is_said(name: str, in_environment: Set) -> None:
    in_environment(f"services.shop.{name}", samples(name)[0])
    assert name.partition(".")[0] in read_words({}, "shop", is_service=True)[0]
    assert Service("shop").name == "shop"


def test_what_is_said_reaches_a_service_and_its_client(in_environment: Set) -> None:
    for name, value in (("timeout", "7"), ("retry.attempts", "4"), ("services.my_shop.threads", "3")):
        in_environment(name, value)
    in_environment("services.my_shop.delivery.retry.attempts", "9")
    service = Service("my-shop", threads=1, delivery=DeliveryOptions(concurrency=4))
    assert service._timeout == 7
    assert service._threads == 3
    assert service._retry == CallRetry(attempts=4)
    assert service._delivery["concurrency"] == 4
    assert service._delivery["retry"].attempts == 9
    assert Client("memory://").timeout == 7
    assert Client("memory://", timeout=2).timeout == 2


def test_groups_are_merged_part_by_part_also_with_those_of_the_code(in_environment: Set, in_file: Set) -> None:
    in_file("retry.attempts", "9")
    in_environment("retry.backoff", "0.5")
    assert read_words({}, None, is_service=False)[0]["retry"] == CallRetry(attempts=9, backoff=0.5)
    in_environment("services.shop.retry.jitter", "0")
    code = {"retry": CallRetry(attempts=2)}
    assert read_words(code, "shop", is_service=True)[0]["retry"] == CallRetry(attempts=2, jitter=0)


def test_a_group_in_one_word_is_where_each_of_its_parts_is_said(in_environment: Set) -> None:
    in_environment("compression", "gzip")
    assert shown("compression.encoding") == ("gzip", "EVENTMICRO_COMPRESSION")
    in_environment("compression.threshold", "9")
    assert shown("compression.threshold") == ("9", "EVENTMICRO_COMPRESSION__THRESHOLD")
    assert Service("shop")._codecs.compression == Compression("gzip", 9)


def test_labels_are_merged_one_by_one(in_environment: Set, in_file: Set) -> None:
    in_environment("metadata", "zone=a,team=all")
    in_environment("services.shop.metadata.zone", "b")
    assert read_words({"metadata": {"team": "shop"}}, "shop", is_service=True)[0]["metadata"] == {
        "zone": "b",
        "team": "shop",
    }


def test_what_is_a_default_only_is_not_said(in_environment: Set) -> None:
    in_environment("timeout", "7")
    assert Service("shop", timeout=5.0)._timeout == 5, "the code says the default by name"
    assert Service("shop")._timeout == 7


def test_none_switches_off_what_the_code_has(in_environment: Set) -> None:
    in_environment("services.shop.retry", "none")
    assert Service("shop", retry=CallRetry())._retry is None


def test_an_empty_variable_says_nothing(in_environment: Set) -> None:
    in_environment("timeout", "")
    assert Service("shop")._timeout == 5


def test_what_is_looked_up_at_the_start_is_no_word_yet(in_environment: Set) -> None:
    for name in AT_START:
        in_environment(name, samples(name)[0])
    assert read_words({}, None, is_service=True) == ({}, {})
