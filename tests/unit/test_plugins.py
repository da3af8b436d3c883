"""plugins: an adapter is found by its entry point, and what is missing is named."""

from __future__ import annotations

import sys
from importlib.metadata import Distribution, EntryPoint, EntryPoints
from typing import Any

import pytest

from eventmicro import plugins
from eventmicro.cli.brokers import FLAGS, WORDS, brokers
from eventmicro.errors import BrokerNotFound, UsageError
from eventmicro.memory import MemoryBroker
from eventmicro.plugins import load, open_broker
from eventmicro.service import Service


class Package(Distribution):
    """An installed distribution that has a name and nothing else."""

    def __init__(self, name: str) -> None:
        self._name = name

    @property
    def metadata(self) -> Any:
        return {"Name": self._name}

    def read_text(self, filename: str) -> None:
        return None

    def locate_file(self, path: Any) -> Any:
        raise NotImplementedError


def entry(name: str, value: str, package: str = "") -> EntryPoint:
    point = EntryPoint(name, value, "eventmicro.brokers")
    return point._for(Package(package)) if package else point  # type: ignore[attr-defined]


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> Any:
    """`installed(point, ...)`: only these entry points exist."""

    def install(*points: EntryPoint) -> None:
        monkeypatch.setattr("importlib.metadata.entry_points", lambda group: EntryPoints(points).select(group=group))

    return install


def test_a_url_opens_the_broker_of_its_scheme_without_connecting() -> None:
    broker = open_broker("memory://name")
    assert isinstance(broker, MemoryBroker)
    assert not broker.connected


def test_a_broker_is_taken_as_it_is() -> None:
    broker = MemoryBroker()
    assert open_broker(broker) is broker


def test_nothing_is_refused_with_what_to_set() -> None:
    for nothing in ("", None):
        with pytest.raises(UsageError, match="no broker is set: pass a URL such as 'nats://"):
            open_broker(nothing)


@pytest.mark.parametrize("url", ["127.0.0.1:4222", "nats", "nats:/host"])
def test_what_is_no_url_is_refused(url: str) -> None:
    with pytest.raises(UsageError, match="is no URL: write"):
        open_broker(url)


def test_an_unknown_scheme_is_refused_with_those_that_are_installed(installed: Any) -> None:
    installed(entry("memory", "eventmicro.memory:MemoryBroker"), entry("alpha", "a:A"))
    with pytest.raises(BrokerNotFound, match="no broker 'pulsar' is installed; installed: alpha, memory"):
        open_broker("pulsar://host")
    installed()
    with pytest.raises(BrokerNotFound, match="installed: none"):
        open_broker("pulsar://host")


def test_an_unknown_scheme_that_is_close_to_a_known_one_is_asked_after(installed: Any) -> None:
    installed(entry("memory", "eventmicro.memory:MemoryBroker"), entry("nats", "a:A"), entry("jetstream", "a:A"))
    with pytest.raises(BrokerNotFound, match=r"no broker 'nat' is installed; did you mean 'nats'\?"):
        open_broker("nat://host")
    with pytest.raises(BrokerNotFound, match=r"did you mean 'jetstream'\?"):
        open_broker("JetStreams://host")


def test_what_is_installed_without_its_driver_is_not_offered(
    installed: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    (tmp_path / "acme_eventmicro_pulsar.py").write_text("import no_such_driver\n")
    monkeypatch.syspath_prepend(tmp_path)
    installed(
        entry("memory", "eventmicro.memory:MemoryBroker"), entry("pulsar", "acme_eventmicro_pulsar:Broker", "acme")
    )
    with pytest.raises(
        BrokerNotFound, match=r"^no broker 'zzz' is installed; installed: memory; without their drivers: pulsar$"
    ):
        open_broker("zzz://host")


@pytest.mark.parametrize("url", ["nat://host", "127.0.0.1:4222"])
@pytest.mark.parametrize("word", ["broker", "rpc_broker"])
def test_a_url_that_nothing_serves_is_refused_where_it_is_written(
    url: str, word: str, installed: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plugins, "load", None)  # the names are enough: no adapter is loaded for that
    installed(entry("nats", "eventmicro_nats:NatsBroker"))
    with pytest.raises(UsageError, match=r"did you mean 'nats'\?|is no URL: write"):
        Service("shop", **{word: url})
    Service("shop", **{word: "nats://host"})


MISSING = [
    # package, module: an adapter's module is imported, its driver is not there
    ("eventmicro", "eventmicro_kafka", "kafka", r"pip install 'eventmicro\[kafka\]'"),
    ("acme-eventmicro-pulsar", "acme_eventmicro_pulsar", "pulsar", r"pip install 'acme-eventmicro-pulsar\[pulsar\]'"),
]


@pytest.mark.parametrize(("package", "module", "scheme", "words"), MISSING)
def test_a_missing_driver_is_named_with_the_extra_that_brings_it(
    package: str, module: str, scheme: str, words: str, installed: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    (tmp_path / f"{module}.py").write_text("import no_such_driver.client\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, module, raising=False)  # where another test has loaded the real one
    installed(entry(scheme, f"{module}:Broker", package))
    with pytest.raises(BrokerNotFound, match=f"broker '{scheme}' needs no_such_driver: {words}"):
        open_broker(f"{scheme}://host")


def test_an_adapter_that_is_not_there_itself_is_no_missing_driver(installed: Any) -> None:
    installed(entry("gone", "no_such_adapter.broker:Broker", "acme"))
    with pytest.raises(ModuleNotFoundError, match="no_such_adapter"):
        open_broker("gone://host")


def test_an_adapter_of_a_third_party_plugs_in_in_the_same_way(
    installed: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    (tmp_path / "acme_adapter.py").write_text("def make(url):\n    return ('made for', url)\n")
    monkeypatch.syspath_prepend(tmp_path)
    installed(entry("acme", "acme_adapter:make", "acme"))
    broker: Any = open_broker("acme://host?x=1")
    assert broker == ("made for", "acme://host?x=1")
    assert load("eventmicro.brokers", "acme", "broker")("u") == ("made for", "u")


@pytest.mark.parametrize("width", [80, 100])
def test_the_list_of_brokers_fits_a_terminal_and_names_those_whose_driver_is_missing(
    width: int, installed: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "acme_eventmicro_pulsar.py").write_text("import no_such_driver\n")
    monkeypatch.syspath_prepend(tmp_path)
    pulsar = "acme_eventmicro_pulsar:Broker"
    ours = [plugins.known("eventmicro.brokers")[scheme] for scheme in ("memory", "nats", "tls")]
    installed(*ours, entry("pulsar", pulsar, "acme"), entry("pulsars", pulsar, "acme"))
    monkeypatch.setenv("COLUMNS", str(width))
    brokers()
    output = capsys.readouterr().out
    assert max(map(len, output.splitlines())) <= width
    table, _, lists = output.partition("\n\n")
    assert [line.split()[0] for line in table.splitlines()] == ["memory", *FLAGS]
    assert table.splitlines()[0].split() == ["memory", "nats"]
    assert [line for line in lists.splitlines() if line and line[0] != " "] == [*WORDS, "not usable here"]
    assert " ".join(lists.split()).endswith("pulsar broker 'pulsar' needs no_such_driver: pip install 'acme[pulsar]'")


def test_our_own_adapters_are_entry_points_like_any_others() -> None:
    assert {"memory", "nats", "tls"} <= set(plugins.known("eventmicro.brokers"))
