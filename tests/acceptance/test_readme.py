"""Every command and every line of code in the README does what the README says."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from eventmicro_nats.embedded import find_nats_server

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
PYTHON = re.findall(r"```python\n(.*?)```", README, re.S)
COMMANDS = [
    line.partition("  #")[0].removeprefix("$ ").strip()
    for block in re.findall(r"```console\n(.*?)```", README, re.S)
    for line in block.splitlines()
    if line.startswith("$ ")
]
RUN, CALL, PUBLISH, SUBSCRIBE, RUN_BESIDE, NATS_SERVER, RUN_JETSTREAM, RUN_KAFKA, *MAKE = COMMANDS


def test_there_is_no_command_that_no_test_runs() -> None:
    assert [command.split()[:2] for command in COMMANDS] == [
        ["eventmicro", "run"],
        ["eventmicro", "call"],
        ["eventmicro", "publish"],
        ["eventmicro", "subscribe"],
        ["eventmicro", "run"],
        ["nats-server", "-js"],  # what the tests start, as they do it
        ["eventmicro", "run"],
        ["eventmicro", "run"],
        ["make", "demo"],  # run by CI, as a user does
        ["make", "test"],  # this
    ]


def test_the_make_targets_exist() -> None:
    for command in MAKE:
        subprocess.run([*shlex.split(command), "-n"], cwd=ROOT, check=True, capture_output=True)


def test_the_server_of_ones_own_comes_with_the_embedded_one() -> None:
    program, option = shlex.split(NATS_SERVER)
    assert Path(find_nats_server()).samefile(Path(sys.executable).with_name(program))
    assert option in subprocess.run([find_nats_server(), "--help"], check=True, capture_output=True, text=True).stdout


def test_every_file_that_is_linked_exists() -> None:
    links = re.findall(r"\]\(([^)#]+)\)", README)
    assert links
    assert [link for link in links if not link.startswith("http") and not (ROOT / link).exists()] == []


class Shell:
    """A folder with the README's shop.py, and an embedded server of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "shop.py").write_text(PYTHON[0])
        (folder / "billing.py").write_text(PYTHON[2])
        drop = ("EVENTMICRO_BROKER",)
        self.environment = {k: v for k, v in os.environ.items() if k not in drop} | {
            "EVENTMICRO_STATE_DIR": str(folder / "state"),
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "PYTHONUNBUFFERED": "1",
            "COLUMNS": "200",
        }

    async def output(self, command: str) -> str:
        """Run a command that ends; its output."""
        async with self.start(command) as process:
            out, err = await process.communicate()
            assert process.returncode == 0, err.decode()
            return out.decode()

    @asynccontextmanager
    async def start(self, command: str) -> AsyncIterator[asyncio.subprocess.Process]:
        """Run a command that goes on; it gets SIGTERM at the end of the block."""
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(
            *shlex.split(command), cwd=self.folder, env=self.environment, stdin=pipe, stdout=pipe, stderr=pipe
        )
        try:
            yield process
        finally:
            if process.returncode is None:
                process.terminate()
            await process.communicate()


async def line_with(stream: asyncio.StreamReader | None, text: str) -> str:
    assert stream is not None
    seen = b""
    while text not in (line := (await stream.readline()).decode()):
        seen += line.encode()
        assert line, f"{text!r} did not come: {seen.decode()}"
    return line


@pytest.mark.timeout_seconds(60)
async def test_the_shop_runs_and_the_commands_do_what_the_readme_shows(tmp_path: Path) -> None:
    shell = Shell(tmp_path)
    async with shell.start(RUN) as run:
        await line_with(run.stderr, "shop.pack")  # the last line of the table
        reply = await shell.output(CALL)
        shown = re.search(r"^\$ eventmicro call.*?\n(\{.*?^\})", README, re.S | re.M)
        assert shown is not None
        assert json.loads(reply) == json.loads(shown[1])
        assert await line_with(run.stdout, "packing") == "packing 2 x tea\n"
        async with shell.start(SUBSCRIBE) as subscribe:
            await line_with(subscribe.stderr, "listening")
            assert await shell.output(PUBLISH) == ""
            assert "salt" in await line_with(subscribe.stdout, "shop.placed")
            assert await line_with(run.stdout, "packing") == "packing 1 x salt\n"
        await use_client(shell)
        assert await line_with(run.stdout, "packing") == "packing 1 x tea\n"
        assert await line_with(run.stdout, "packing") == "packing 1 x salt\n"


@pytest.mark.timeout_seconds(60)
async def test_the_stream_is_read_as_far_as_it_says(tmp_path: Path) -> None:
    shell = Shell(tmp_path)
    async with shell.start(RUN) as run:
        await line_with(run.stderr, "shop.pack")
        (tmp_path / "counting.py").write_text(PYTHON[3])
        assert await shell.output(f"{sys.executable} counting.py") == "5\n6\n7\n"


async def use_client(shell: Shell) -> None:
    """The README's second piece of code, as a script beside shop.py."""
    (shell.folder / "client.py").write_text(PYTHON[1])
    assert await shell.output(f"{sys.executable} client.py") == "4.2\n"


@pytest.mark.timeout_seconds(60)
async def test_each_order_is_packed_and_billed_once_where_all_of_it_runs_on_the_embedded_server(tmp_path: Path) -> None:
    shell = Shell(tmp_path)
    async with shell.start(RUN) as shop:
        await line_with(shop.stderr, "shop.pack")  # the last line of the table
        async with shell.start(RUN_BESIDE) as billing:
            await line_with(billing.stderr, "billing.bill")
            await shell.output(CALL)
            await shell.output(PUBLISH)
            assert [await line_with(shop.stdout, "packing") for _ in range(2)] == [
                "packing 2 x tea\n",
                "packing 1 x salt\n",
            ]
            assert {await line_with(billing.stdout, "") for _ in range(2)} == {"billed tea\n", "billed salt\n"}
            kept = await shell.output("eventmicro subscribe shop.placed --since 1h --count 2")
            assert [word in line for word, line in zip(("tea", "salt"), kept.splitlines(), strict=True)] == [True, True]
            billing.terminate()
            assert await rest(billing) == ""  # a stop finishes what has arrived
            shop.terminate()
            assert await rest(shop) == ""


async def rest(process: asyncio.subprocess.Process) -> str:
    """What a process still prints until its end."""
    assert process.stdout is not None
    return (await process.stdout.read()).decode()


@pytest.mark.timeout_seconds(60)
@pytest.mark.parametrize("broker", ["jetstream", "kafka"])
async def test_the_subscriber_that_loses_nothing_runs_as_it_says(
    broker: str, tmp_path: Path, jetstream_url: str, request: pytest.FixtureRequest
) -> None:
    shell = Shell(tmp_path)
    url = request.getfixturevalue(f"{broker}_url")
    command = {"jetstream": RUN_JETSTREAM, "kafka": RUN_KAFKA}[broker]
    command = re.sub(r"--broker \S+", f"--broker {url}", command)
    command = re.sub(r"--rpc-broker \S+", f"--rpc-broker {jetstream_url.replace('jetstream', 'nats')}", command)
    shell.environment["EVENTMICRO_BROKER"] = url
    async with shell.start(command) as run:
        await line_with(run.stderr, "billing.bill")  # the last line of the table
        await shell.output(PUBLISH)
        seen = {await line_with(run.stdout, "salt") for _ in range(2)}
    assert seen == {"billed salt\n", "packing 1 x salt\n"}
