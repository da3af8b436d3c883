"""`eventmicro stream`, and the content types of all commands that send and show messages, with real processes."""

from __future__ import annotations

import gzip
import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from tests.processes import LIMIT, Program, environment, eventmicro

APP = """
import asyncio
from collections.abc import AsyncIterator
from eventmicro import NotFound, Service, Topic

service = Service("numbers")

@service.rpc
async def up(start: int) -> AsyncIterator[dict[str, int]]:
    for number in range(start, start + 3):
        yield {"number": number}

@service.rpc
async def endless() -> AsyncIterator[int]:
    yield 1
    await asyncio.Event().wait()

@service.rpc
async def failing() -> AsyncIterator[int]:
    yield 1
    raise NotFound("no more of them")

@service.rpc
async def total(numbers: AsyncIterator[int]) -> int:
    return sum([number async for number in numbers])

@service.rpc
async def double(numbers: AsyncIterator[int]) -> AsyncIterator[int]:
    async for number in numbers:
        yield 2 * number

@service.rpc
async def echo(value: dict[str, int]) -> dict[str, int]:
    return value

@service.subscribe(Topic("numbers.seen", dict[str, int]))
async def see(event: dict[str, int]) -> None:
    print("seen", event, flush=True)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A project whose service runs on an embedded server, which the commands find by themselves."""
    folder = tmp_path_factory.mktemp("streams")
    (folder / "app.py").write_text(APP)
    with Program(folder, "run", "app") as program:
        program.line_with("see")
        yield folder


@pytest.mark.parametrize("how", [(), ("--content-type", "msgpack")])
def test_a_stream_is_a_line_of_json_a_message(folder: Path, how: tuple[str, ...]) -> None:
    done = eventmicro(folder, "stream", "numbers.up", "5", *how)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == ['{"number":5}', '{"number":6}', '{"number":7}']


def test_it_ends_after_as_many_messages_as_were_asked_for(folder: Path) -> None:
    done = eventmicro(folder, "stream", "numbers.endless", "--count", "1")
    assert (done.returncode, done.stdout, done.stderr) == (0, "1\n", "")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_ends_an_endless_one_well(folder: Path, number: signal.Signals) -> None:
    with Program(folder, "stream", "numbers.endless") as program:
        program.line_with("1")
        assert program.end(number) == 0
    assert program.output == "1\n"


@pytest.mark.parametrize("how", [(), ("--content-type", "msgpack"), ("-",)])
def test_the_lines_of_stdin_are_the_messages_to_an_endpoint_that_takes_a_stream(
    folder: Path, how: tuple[str, ...]
) -> None:
    lines = b"".join(b"%d\n" % number for number in range(20_000))
    done = eventmicro(folder, "stream", "numbers.total", *how, stdin=lines)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{sum(range(20_000))}\n", "")
    done = eventmicro(folder, "stream", "numbers.double", *how, stdin=b"1\n\n2\n3")
    assert (done.returncode, done.stdout, done.stderr) == (0, "2\n4\n6\n", "")


@pytest.mark.parametrize("ending", ["count", "signal"])
def test_it_ends_though_stdin_is_still_open(folder: Path, ending: str) -> None:
    how = ("--count", "1") if ending == "count" else ()
    with subprocess.Popen(
        [sys.executable, "-m", "eventmicro", "stream", "numbers.double", *how],
        env=environment(folder),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdin.write(b"21\n")
        process.stdin.flush()
        assert process.stdout.readline() == b"42\n"
        if ending == "signal":
            process.send_signal(signal.SIGINT)
        assert process.wait(LIMIT) == 0
        assert process.stderr.read() == b""


def test_without_a_stdin_nothing_is_sent(folder: Path) -> None:
    done = eventmicro(folder, "stream", "numbers.total")
    assert (done.returncode, done.stdout, done.stderr) == (0, "0\n", "")


@pytest.mark.parametrize(
    ("arguments", "stdin", "code", "out", "words"),
    [
        (["numbers.failing"], None, 1, "1\n", ["numbers.failing: 404 Not Found", "no more of them"]),
        (["numbers.up", '"a"'], None, 1, "", ["400 Bad Request"]),
        (["numbers.ups"], None, 1, "", ["has no endpoint 'ups'", "did you mean 'up'?"]),
        (["nobody.ups"], None, 1, "", ["503", "nobody serves nobody.ups"]),
        (["numbers"], None, 2, "", ["service.endpoint"]),
        (["numbers.up", "{"], None, 2, "", ["the body is no JSON"]),
        (["numbers.total", "5"], None, 2, "", ["takes a stream", "leave BODY out"]),
        (["numbers.total"], b"1\nx\n", 2, "", ["message 2 is no JSON"]),
        (["numbers.total"], b'"a"\n', 1, "", ["400 Bad Request", "a message of the stream"]),
    ],
)
def test_a_stream_that_fails_says_why_on_stderr(
    folder: Path, arguments: list[str], stdin: bytes | None, code: int, out: str, words: list[str]
) -> None:
    done = eventmicro(folder, "stream", *arguments, stdin=stdin)
    assert (done.returncode, done.stdout) == (code, out)
    assert [word for word in words if word not in done.stderr] == []
    assert "Traceback" not in done.stderr


def test_a_call_to_a_stream_says_how_to_see_all_of_it(folder: Path) -> None:
    done = eventmicro(folder, "call", "numbers.up", "5")
    assert (done.returncode, json.loads(done.stdout)) == (0, {"number": 5})
    assert done.stderr == "numbers.up sends a stream, of which this is the first: eventmicro stream numbers.up\n"
    done = eventmicro(folder, "call", "numbers.total")
    assert (done.returncode, done.stdout) == (1, "")
    assert "numbers.total takes a stream: eventmicro stream numbers.total sends it the lines of stdin" in done.stderr


@pytest.mark.parametrize("name", ["msgpack", "cbor", "bson", "json-rpc", "application/json"])
def test_a_call_in_another_content_type_takes_json_and_shows_json(folder: Path, name: str) -> None:
    done = eventmicro(folder, "call", "numbers.echo", '{"a": 1}', "--content-type", name)
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout) == {"a": 1}


@pytest.mark.parametrize(
    ("how", "words"),
    [
        (["--content-type", "msgpck"], ["did you mean 'msgpack'?"]),
        (["--content-type", "protobuf"], ["a value of type dict cannot travel as application/protobuf"]),
        (["--content-type", "cbor", "--header", "content-type=a/b"], ["leave one of them out"]),
    ],
)
def test_a_content_type_in_which_json_cannot_travel_is_refused(folder: Path, how: list[str], words: list[str]) -> None:
    for command, where in (("call", "numbers.echo"), ("publish", "numbers.seen")):
        done = eventmicro(folder, command, where, '{"a": 1}', *how)
        assert (done.returncode, done.stdout) == (2, "")
        assert [word for word in words if word not in done.stderr] == []
        assert "Traceback" not in done.stderr


def test_subscribe_shows_what_is_in_another_content_type_or_compressed_as_json(folder: Path) -> None:
    packed = gzip.compress(b'{"a": 2}')
    headers = ("--header", "Content-Encoding=gzip", "--header", "Content-Type=application/json")
    both = (*headers[:2], "--header", "Content-Type=application/msgpack")
    with Program(folder, "subscribe", "numbers.seen", "--count", "5") as program:
        program.line_with("listening to numbers.seen")
        for arguments, stdin in (
            (('{"a": 1}', "--content-type", "msgpack"), None),
            (("-", *headers), packed),
            (("-", *both), gzip.compress(msgspec.msgpack.encode({"a": 3, "b": b"\x00"}))),
            (("-", "--header", "Content-Encoding=gzip"), b"\x1f\x8bno"),
            (("-", "--header", "Content-Type=text/plain"), b"plain"),
        ):
            assert eventmicro(folder, "publish", "numbers.seen", *arguments, stdin=stdin).returncode == 0
        assert program.wait() == 0
    assert program.output.splitlines()[1:] == [
        'numbers.seen {"a":1}',
        'numbers.seen {"a":2}',
        'numbers.seen {"a":3,"b":"AA=="}',
        "numbers.seen b'\\x1f\\x8bno'",
        'numbers.seen "plain"',
    ]
