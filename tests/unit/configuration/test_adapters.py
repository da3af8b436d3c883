"""All that can be set of an adapter in code is set by the environment and the file, too: beside its URL, or in it."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import Field, dataclass, fields
from pathlib import Path
from typing import Any

import pytest

from eventmicro import MemoryBroker, UsageError
from eventmicro.memory.settings import MemorySettings
from eventmicro.plugins import BROKERS, REGISTRIES, known, open_broker, open_registry
from eventmicro.sources import FILE_VARIABLE, said_url, variable_of

# What the URL says by its scheme, its hosts or its path.
IN_ADDRESS = {"servers", "server", "vhost", "interface"}
TLS_BY_SCHEME = {"amqp", "etcd", "consul"}
# What only code can say: a function.
IN_CODE = {("kafka", "token")}
# What goes with a setting, so that it is taken.
WITH: dict[str, dict[str, str]] = {
    "user": {"password": "p"},
    "password": {"user": "u"},
    "tls_cert": {"tls_key": "k"},
    "tls_key": {"tls_cert": "c"},
    "token_url": {"sasl": "OAUTHBEARER", "user": "u", "password": "p"},
    "token_scope": {"sasl": "OAUTHBEARER", "token_url": "http://h", "user": "u", "password": "p"},
}
# Values where not every one is taken.
VALUES = {
    "declare": "check",
    "storage": "memory",
    "registry_storage": "memory",
    "sasl": "PLAIN",
    "compression": "gzip",
    "token_url": "https://h/token",
    "partitions": "3",
    "replication": "3",
    "type": "_x._tcp",
}


@dataclass(frozen=True)
class Adapter:
    """A broker or a registry, as its URL opens it."""

    name: str
    scheme: str
    open: Callable[[str], Any]
    host: str = "h"

    @property
    def url(self) -> str:
        return f"{self.scheme}://{self.host}"

    def settings(self) -> list[Field[Any]]:
        """What can be set of it in code."""
        return list(fields(self.open(self.url).settings))

    @property
    def kind(self) -> str:
        """Its scheme without TLS."""
        return {"amqps": "amqp", "etcds": "etcd", "consuls": "consul"}.get(self.scheme, self.scheme)


def _of(group: str, name: str, opens: Callable[[str], Any], others: set[str]) -> list[Adapter]:
    hosts = {"mdns": "127.0.0.1"}
    return [Adapter(name, each, opens, hosts.get(each, "h")) for each in known(group) if each not in others]


ADAPTERS = [
    *_of(BROKERS, "broker", open_broker, {"memory", "kafkas", "kafka+ssl", "tls"}),
    *_of(REGISTRIES, "registry", open_registry, {"memory", "static", "nats"}),
]
Say = Callable[[Adapter, Mapping[str, str]], None]


@pytest.fixture(autouse=True)
def _nothing_said(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("EVENTMICRO_")]:
        monkeypatch.delenv(name)


@pytest.fixture(params=["environment", "file"])
def say(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Say:
    """Has the environment, or a file, say an adapter's URL and options beside it."""
    written: list[Path] = []

    def in_environment(adapter: Adapter, options: Mapping[str, str]) -> None:
        for name in [name for name in os.environ if name.startswith("EVENTMICRO_")]:
            monkeypatch.delenv(name)
        monkeypatch.setenv(variable_of(adapter.name), adapter.url)
        for name, value in options.items():
            monkeypatch.setenv(variable_of(adapter.name, name), value)

    def in_file(adapter: Adapter, options: Mapping[str, str]) -> None:
        file = tmp_path / f"{len(written)}.toml"
        lines = [f'{name} = "{value}"\n' for name, value in {"url": adapter.url, **options}.items()]
        file.write_text(f"[{adapter.name}]\n{''.join(lines)}")
        written.append(file)
        monkeypatch.setenv(FILE_VARIABLE, str(file))

    return in_environment if request.param == "environment" else in_file


def value_of(setting: Field[Any]) -> str:
    """Another value than the default."""
    default = setting.default
    if isinstance(default, bool):
        return str(not default).lower()
    if (value := VALUES.get(setting.name)) is not None:
        return value
    return str(default + 1) if isinstance(default, int | float) else "x"


def beside(adapter: Adapter) -> Iterator[Field[Any]]:
    """What can stand beside its URL."""
    for setting in adapter.settings():
        is_in_scheme = setting.name == "tls" and adapter.kind in TLS_BY_SCHEME
        if setting.name not in IN_ADDRESS and not is_in_scheme and (adapter.scheme, setting.name) not in IN_CODE:
            yield setting


@pytest.mark.parametrize("adapter", ADAPTERS, ids=lambda adapter: f"{adapter.name}-{adapter.scheme}")
def test_each_setting_of_an_adapter_is_taken_beside_its_url(adapter: Adapter, say: Say) -> None:
    seen = 0
    for setting in beside(adapter):
        if setting.name.startswith("tls_") and adapter.scheme in TLS_BY_SCHEME:
            continue  # which are for the scheme with TLS
        value = value_of(setting)
        say(adapter, {setting.name: value, **WITH.get(setting.name, {})})
        made = getattr(adapter.open(said_url(adapter.name) or "").settings, setting.name)
        wanted = value == "true" if isinstance(made, bool) else type(made)(value)
        assert (made, made != setting.default) == (wanted, True), setting.name
        seen += 1
    assert seen >= 1


@pytest.mark.parametrize("adapter", ADAPTERS, ids=lambda adapter: f"{adapter.name}-{adapter.scheme}")
def test_what_the_url_itself_says_is_refused_beside_it_by_its_name(adapter: Adapter, say: Say) -> None:
    there = {setting.name for setting in adapter.settings()}
    for name in there - {setting.name for setting in beside(adapter)} - {name for _, name in IN_CODE}:
        say(adapter, {name: "x"})
        with pytest.raises(UsageError, match=f"nothing is called '{name}' here"):
            adapter.open(said_url(adapter.name) or "")


def test_the_broker_in_memory_has_a_setting_for_each_of_its_arguments(monkeypatch: pytest.MonkeyPatch) -> None:
    names = set(inspect.signature(MemoryBroker.__init__).parameters) - {"self", "url"}
    assert {setting.name for setting in fields(MemorySettings)} == names | {"like"}
    for name in names:
        monkeypatch.setenv("EVENTMICRO_BROKER", "memory://x")
        monkeypatch.setenv(variable_of("broker", name), "7")
        assert getattr(open_broker(said_url("broker")), f"_{name}") == 7
