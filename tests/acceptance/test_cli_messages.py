"""`eventmicro call`, `publish` and `subscribe` with real processes."""

from __future__ import annotations

import json
import secrets
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from eventmicro import embedded
from tests.processes import Program, environment, eventmicro

APP = """
import asyncio
from pydantic import BaseModel
from eventmicro import Context, NotFound, Service

class Order(BaseModel):
    sku: str
    quantity: int = 1

service = Service("orders")

@service.rpc
async def quote(request: Order, context: Context) -> dict[str, object]:
    return {"sku": request.sku, "total": 2 * request.quantity, "tenant": context.metadata.get("tenant")}

@service.rpc
async def ping() -> None: ...

@service.rpc
async def find(request: Order) -> Order:
    raise NotFound(f"no {request.sku}\\x1b[31m")

@service.rpc
async def sleep(request: Order) -> None:
    await asyncio.sleep(1000)

@service.subscribe("orders.placed")
async def placed(event: Order) -> None:
    await service.publish("billed", event)
"""

KEPT = """
from eventmicro import Service

service = Service("{name}")

@service.subscribe("{subject}")
async def see(event: int) -> None:
    print("seen", event, flush=True)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A project whose service runs on an embedded server, which the commands find by themselves."""
    folder = tmp_path_factory.mktemp("messages")
    (folder / "app.py").write_text(APP)
    with Program(folder, "run", "app") as program:
        program.line_with("placed")
        yield folder


def test_a_call_prints_its_reply(folder: Path) -> None:
    done = eventmicro(folder, "call", "orders.quote", '{"sku": "ü", "quantity": 3}', "--header", "tenant=acme")
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout) == {"sku": "ü", "total": 6, "tenant": "acme"}
    assert done.stdout.startswith("{\n  ")


@pytest.mark.parametrize("arguments", [[], ["-"]])
def test_a_call_reads_its_body_from_a_pipe(folder: Path, arguments: list[str]) -> None:
    done = eventmicro(folder, "call", "orders.quote", *arguments, stdin=b'{"sku": "a"}\n')
    assert json.loads(done.stdout)["total"] == 2


def test_a_call_without_a_body_sends_none_and_prints_nothing_for_nothing(folder: Path) -> None:
    done = eventmicro(folder, "call", "orders.ping")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.strip() in ("", "null")


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["orders.quote", '{"quantity": "x"}'], 1, ["400 Bad Request", "sku: Field required", "quantity: "]),
        (["orders.find", '{"sku": "a"}'], 1, ["404 Not Found", "no a\\u001b[31m"]),
        (["orders.nothing"], 1, ["404", "'orders' has no endpoint 'nothing'"]),
        (["orders.sleep", '{"sku": "a"}', "--timeout", "0.1"], 1, ["408", "no reply from orders.sleep"]),
        (["orders"], 2, ["service.endpoint"]),
        (["orders.quote", '{"sku": '], 2, ["the body is no JSON"]),
        (["orders.quote", "--header", "tenant"], 2, ["NAME=VALUE"]),
        (["orders.quote", "--broker", "pigeon://x"], 2, ["no broker 'pigeon'"]),
        (["orders.quote", "--broker", "nats://127.0.0.1:1?connect_timeout=0.2"], 1, ["cannot connect"]),
        ([], 2, ["Missing argument"]),
    ],
)
def test_a_call_that_fails_says_why_on_stderr(folder: Path, arguments: list[str], code: int, words: list[str]) -> None:
    done = eventmicro(folder, "call", *arguments)
    assert (done.returncode, done.stdout) == (code, "")
    assert [word for word in words if word not in done.stderr] == []
    assert "Traceback" not in done.stderr
    assert "\x1b[31m" not in done.stderr


def test_without_a_broker_anywhere_it_says_how_to_get_one(tmp_path: Path) -> None:
    done = eventmicro(tmp_path, "publish", "orders.placed", "{}")
    assert done.returncode == 2
    assert "eventmicro run" in done.stderr
    assert "EVENTMICRO_BROKER" in done.stderr


def test_services_takes_the_name_of_one(folder: Path) -> None:
    done = eventmicro(folder, "services", "orders")
    assert done.returncode == 0
    assert [line.split()[0] for line in done.stdout.splitlines()] == ["SERVICE", "orders"]
    assert all(line == line.rstrip() for line in done.stdout.splitlines())


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["services", "ordrs"], 2, "there is no service 'ordrs'; did you mean 'orders'?; see `eventmicro services`"),
        (["describe", "ordrs"], 2, "there is no service 'ordrs'; did you mean 'orders'?"),
        (["nodes", "ordrs"], 2, "did you mean 'orders'?"),
        (["health", "ordrs"], 2, "did you mean 'orders'?"),
        (["stats", "ordrs"], 2, "did you mean 'orders'?"),
        (["call", "ordrs.quote"], 1, "did you mean 'orders'?"),
        (["call", "ordrs.quote", "--selector", "newest"], 1, "did you mean 'orders'?"),
        (["stream", "ordrs.quote"], 1, "did you mean 'orders'?"),
    ],
)
def test_a_service_that_is_not_there_is_perhaps_another(
    folder: Path, arguments: list[str], code: int, words: str
) -> None:
    done = eventmicro(folder, *arguments)
    assert (done.returncode, done.stdout) == (code, "")
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def test_subscribe_prints_a_line_a_message_and_ends_after_its_count(folder: Path) -> None:
    with Program(folder, "subscribe", "watched.>", "--count", "3") as program:
        program.line_with("listening to watched.>")
        assert eventmicro(folder, "publish", "watched.a", '{"sku":  "ü\\u202e"}').returncode == 0
        assert eventmicro(folder, "publish", "watched.b.c").returncode == 0
        raw = eventmicro(folder, "publish", "watched.d", "-", "--header", "Content-Type=a/b", stdin=b"\x00\x1b[31m\n")
        assert raw.returncode == 0
        assert program.wait() == 0
    assert program.output.splitlines()[1:] == [
        'watched.a {"sku":"ü\\u202e"}',
        "watched.b.c b''",
        "watched.d b'\\x00\\x1b[31m\\n'",
    ]


def test_subscribe_prints_lines_for_programs_and_ends_well_with_ctrl_c(folder: Path) -> None:
    with Program(folder, "subscribe", "billed", "--json") as program:
        assert "Ctrl-C ends it" in program.line_with("listening to billed")
        eventmicro(folder, "publish", "orders.placed", '{"sku": "a"}')
        assert json.loads(program.line_with("billed")) == {
            "subject": "billed",
            "headers": {},
            "body": {"sku": "a", "quantity": 1},
        }
        assert program.end(signal.SIGINT) == 0


def test_a_call_goes_over_the_broker_for_calls_alone(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    away = "nats://127.0.0.1:1?connect_timeout=0.2"
    monkeypatch.setenv("EVENTMICRO_STATE_DIR", environment(folder)["EVENTMICRO_STATE_DIR"])
    url = embedded.find()
    assert url is not None
    done = eventmicro(folder, "call", "orders.ping", "--broker", away, "--rpc-broker", url)
    assert (done.returncode, done.stderr) == (0, "")
    done = eventmicro(folder, "call", "orders.ping", "--broker", url, "--rpc-broker", away)
    assert (done.returncode, "cannot connect" in done.stderr) == (1, True)


def test_an_event_is_published_under_its_key_and_id(tmp_path: Path, jetstream_url: str) -> None:
    """JetStream stores one of the two that have the same id."""
    subject = f"cli.{secrets.token_hex(4)}"
    (tmp_path / "app.py").write_text(KEPT.format(name=subject.replace(".", "-"), subject=subject))
    with Program(tmp_path, "run", "app", "--broker", jetstream_url) as program:
        program.line_with(subject)
        for number, name in (("1", "a"), ("2", "a"), ("3", "b")):
            words = ("--key", "k", "--id", f"{subject}.{name}", "--broker", jetstream_url)
            done = eventmicro(tmp_path, "publish", subject, number, *words)
            assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
        assert "seen 1" in program.line_with("seen")
        assert "seen 3" in program.line_with("seen")


def test_where_the_broker_makes_nothing_of_a_key_or_an_id_that_is_said(folder: Path) -> None:
    done = eventmicro(folder, "publish", "watched.key", "1", "--key", "k", "--id", "i")
    assert done.returncode == 0
    of_key, of_id = done.stderr.splitlines()
    assert of_key.startswith("eventmicro: --key: nats://")
    assert "jetstream://" in of_key
    assert of_id.startswith("eventmicro: --id: nats://")
    assert of_id.endswith("able are jetstream://, memory://")


def test_publishing_to_a_wildcard_is_refused(folder: Path) -> None:
    done = eventmicro(folder, "publish", "orders.*", "{}")
    assert done.returncode == 2
    assert "wildcards are for subscribing" in done.stderr


@pytest.mark.parametrize(
    "words",
    [("publish", "orders.placed", "{}"), ("subscribe", "orders.>"), ("call", "orders.ping")],
    ids=lambda w: w[0],
)
@pytest.mark.parametrize("said_by", ["flag", "environment"])
def test_a_broker_within_one_process_is_refused(tmp_path: Path, words: tuple[str, ...], said_by: str) -> None:
    flag, env = ("--broker", "memory://"), {"EVENTMICRO_BROKER": "memory://"}
    by_flag = said_by == "flag"
    done = eventmicro(tmp_path, *words, *(flag if by_flag else ()), env={} if by_flag else env)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("eventmicro: memory:// lives within one process: from here nobody is reached")
    assert done.stderr.count("\n") == 1
