"""The embedded server: a broker for development, one for all that a user runs on the machine.

An adapter that can start its broker's server names a class in the entry-point group `eventmicro.embedded`; `Server` is
what it promises. Who starts first starts the server and takes it along when it ends; whoever comes meanwhile joins. One
folder of the user's holds all of it, whoever started it and where: its data, so that each start goes on with them, a
state file that says where it is, and a lock that keeps two that start at once from racing.
"""

from __future__ import annotations

import json
import logging
import os
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

from eventmicro.errors import BrokerNotFound, UsageError
from eventmicro.plugins import known, load
from eventmicro.sources import said_text

if sys.platform != "win32":
    import fcntl

log = logging.getLogger(__name__)

GROUP = "eventmicro.embedded"
# The names of this machine for itself.
LOCAL = ("127.0.0.1", "localhost", "::1")
STATE_VARIABLE = "EVENTMICRO_STATE_DIR"
DATA_FOLDER = "data"
# Where earlier versions kept the data: in the folder in which the server was started.
FORMER_DATA_FOLDER = ".eventmicro"


class Server(Protocol):
    """A broker's server as a child process that never outlives this one. Made with the folder for its data."""

    def __init__(self, folder: Path) -> None: ...

    @property
    def url(self) -> str:
        """Where it is, as a broker URL."""
        ...

    @property
    def pid(self) -> int:
        """Its process."""
        ...

    def start(self, port: int | None = None) -> None:
        """Start; return when it takes connections. It takes `port` if that is given and free, or else any free one.

        Raises:
            BrokerNotFound: the server is not installed.
            ConnectionFailed: it did not start.
            UsageError: the folder cannot be used.
        """
        ...

    def stop(self) -> None:
        """Stop, and return when it is gone. A second call does nothing."""
        ...

    @staticmethod
    def answers(url: str) -> bool:
        """Whether such a server answers at this URL, within a few seconds."""
        ...

    @staticmethod
    def keeping(url: str) -> str:
        """The URL of the same server as a broker that keeps events; the same one where it always does."""
        ...


@dataclass(frozen=True, slots=True)
class State:
    """What the state file says: where the server is, or was last; `pid` is 0 after an orderly stop."""

    url: str
    pid: int


def find() -> str | None:
    """The URL of the embedded server that this user runs on this machine; None where none runs."""
    with suppress(UsageError):
        state = _read(state_folder())
        if state is not None and _runs(state):
            return state.url
    return None


def find_keeping() -> str | None:
    """The same as a broker that keeps events, for what only such a one has: queues, dead letters."""
    url = find()
    return None if url is None else keeping(url)


def keeping(url: str) -> str:
    """The URL of the embedded server, of which this is the plain one, as a broker that keeps events.

    Raises:
        BrokerNotFound: no server can be embedded.
    """
    return _server_class().keeping(url)


def describe_running(url: str) -> str:
    """Of the embedded server that runs, for the end of an error about another one of its kind on this machine, where
    none is; else empty.
    """
    asked, there = urlsplit(url), find()
    if there is None or asked.hostname not in LOCAL:
        return ""
    place = next((each for each in (there, keeping(there)) if urlsplit(each).scheme == asked.scheme), "")
    return f"; an embedded server runs at {place}" if place else ""


def describe_last() -> str:
    """Of the embedded server that is not there any more, for an error's end; empty where there was none."""
    with suppress(UsageError):
        if (last := _read(state_folder())) is not None:
            return (
                f"; the one at {last.url} ended with the `run` that had started it, and the next `run` starts it again"
            )
    return ""


@contextmanager
def running() -> Iterator[str]:
    """Join the embedded server, or start one that ends with this block; the value is its URL. On the main thread only.

    A new server goes on with the data of the last one and prefers the port that it had, so that services which still
    run from then find it again. Both are in `EVENTMICRO_STATE_DIR`; default: `eventmicro` in `$XDG_STATE_HOME`, or else
    in `~/.local/state`.

    Raises:
        BrokerNotFound: no server can be started, because none is installed.
        ConnectionFailed: the server did not start.
        UsageError: the folder of the state file, or that of the data, cannot be used.
    """
    folder = state_folder()
    with _lock(folder):
        last = _read(folder)
        server = None if last is not None and _runs(last) else _start(folder / DATA_FOLDER, last)
        state = State(server.url, server.pid) if server is not None else last
        assert state is not None
        if server is not None:
            _write(folder, state)
    _warn_of_former_data(folder / DATA_FOLDER)
    if server is None:
        log.info("joined the embedded server at %s, its data is in %s", state.url, folder / DATA_FOLDER)
        yield state.url
        return
    log.info("started an embedded server at %s, its data is in %s", state.url, folder / DATA_FOLDER)
    try:
        yield state.url
    finally:
        with _lock(folder):
            _write(folder, State(state.url, 0))
            server.stop()
        log.info("stopped the embedded server")


def _start(data: Path, last: State | None) -> Server:
    server = _server_class()(data)
    server.start(urlsplit(last.url).port if last is not None else None)
    return server


def _warn_of_former_data(data: Path) -> None:
    former = Path(FORMER_DATA_FOLDER).absolute()
    if (former / "jetstream").is_dir():
        log.warning(
            "the events in %s are of an earlier version and are not used: to go on with them stop all that runs here, "
            "and make it %s; or delete it",
            former,
            data,
        )


def _server_class() -> type[Server]:
    try:
        name = min(known(GROUP), default="")
        kind: type[Server] = load(GROUP, name, "embedded server")
    except BrokerNotFound as error:
        raise BrokerNotFound(
            f"no broker is set, and none can be embedded: {str(error).partition(': pip install')[0]}; "
            f"pip install 'eventmicro[embedded]', or name a broker"
        ) from error
    return kind


def _runs(state: State) -> bool:
    """Whether the server of the state file is there: its process is ours and alive, and it answers."""
    if state.pid <= 0:
        return False
    try:
        os.kill(state.pid, 0)
    except (OSError, OverflowError):
        return False
    with suppress(BrokerNotFound):
        return _server_class().answers(state.url)
    return False


def state_folder() -> Path:
    """The folder of the state file, made if need be: this user's, and nobody else's to write to.

    Raises:
        UsageError: it cannot be made, or it belongs to somebody else.
    """
    try:
        folder = state_place()
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = folder.lstat()
    except (OSError, RuntimeError) as error:  # the second where the user has no home
        raise UsageError(f"no folder for the state of the embedded server: {error}; set {STATE_VARIABLE}") from error
    if sys.platform != "win32" and (found.st_uid != os.getuid() or not stat.S_ISDIR(found.st_mode)):
        raise UsageError(f"{folder} is not your own folder, so it is not trusted; set {STATE_VARIABLE} to one that is")
    if sys.platform != "win32" and found.st_mode & 0o022:
        raise UsageError(
            f"{folder} can be written by others, so it is not trusted; chmod 700 it, or set {STATE_VARIABLE}"
        )
    return folder


def state_place() -> Path:
    """Where all of it is; not a folder that a restart of the machine empties, since confirmed events are in it."""
    if chosen := said_text("state_dir"):
        return Path(chosen).absolute()
    base = Path(os.environ.get("XDG_STATE_HOME", ""))
    return (base if base.is_absolute() else Path.home() / ".local" / "state") / "eventmicro"


@contextmanager
def _lock(folder: Path) -> Iterator[None]:
    """Wait until no other process is about to start or stop the embedded server, and keep the others waiting."""
    if sys.platform == "win32":
        yield
        return
    with (folder / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _read(folder: Path) -> State | None:
    """The state file; None where there is none, or none that can be read."""
    try:
        form: Any = json.loads((folder / "embedded.json").read_text())
        return State(str(form["url"]), int(form["pid"]))
    except (OSError, ValueError, TypeError, KeyError):
        return None


def _write(folder: Path, state: State) -> None:
    """Write the state file in one step, so that `find` needs no lock."""
    new = folder / "embedded.json.new"
    new.write_text(json.dumps(asdict(state)))
    new.replace(folder / "embedded.json")
