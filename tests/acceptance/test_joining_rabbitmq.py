"""What docs/joining/rabbitmq.md shows of events and calls, run as it stands, and the command line over RabbitMQ."""

from __future__ import annotations

import asyncio
import json
import re
import secrets
import subprocess
import sys
from pathlib import Path

import pytest

from tests.integration.rabbitmq.kit import raw_channel
from tests.processes import LIMIT, Program, environment, eventmicro

PAGE = (Path(__file__).parents[2] / "docs/joining/rabbitmq.md").read_text()
PROGRAMS: dict[str, str] = dict(re.findall(r"```python\n# (\w+\.py)\n(.*?)```", PAGE, re.DOTALL))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, code in PROGRAMS.items():
        (tmp_path / name).write_text(code)
    return tmp_path


def test_a_client_of_aio_pika_calls_and_the_command_line_sees_who_is_there(folder: Path, rabbitmq_url: str) -> None:
    over = ("--broker", f"{rabbitmq_url}?new_queue_wait=0")
    with Program(folder, "run", "quoting:service", "audit:service", *over) as program:
        program.line_with("audit", "subscribe")
        asking = [sys.executable, "asking.py", rabbitmq_url]
        asked = subprocess.run(
            asking, cwd=folder, env=environment(folder), capture_output=True, text=True, timeout=LIMIT, check=False
        )
        assert asked.stdout == "ok {'total': 8.4}\n", asked.stdout + asked.stderr
        done = eventmicro(folder, "call", "orders.quote", '{"sku": "tea"}', *over)
        assert json.loads(done.stdout) == {"total": 4.2}
        assert "orders" in eventmicro(folder, "nodes", "orders", *over).stdout
        assert "ok" in eventmicro(folder, "health", "orders", *over).stdout
        assert "quote" in eventmicro(folder, "stats", "orders", *over).stdout
        published = eventmicro(folder, "publish", "orders.placed", '{"sku": "tea"}', *over)
        assert published.returncode == 0, published.stderr
        assert program.line_with("events orders.placed None")
        assert program.end() == 0, program.output


def test_what_others_have_made_is_named_as_rabbitmq_takes_it(folder: Path, rabbitmq_url: str) -> None:
    over = ("--broker", f"{rabbitmq_url}?new_queue_wait=0")
    done = eventmicro(folder, "declare", "billing:service", *over)
    assert done.returncode == 0, done.stdout + done.stderr
    assert all(name in done.stdout for name in ("billing", "new-orders", "invoices")), done.stdout


def test_it_is_shown_by_which_exchange_events_come(folder: Path, rabbitmq_url: str) -> None:
    over = ("--broker", f"{rabbitmq_url}?new_queue_wait=0")
    with Program(folder, "run", "billing:service", *over) as program:
        line = program.line_with("billing", "subscribe", "bill", "orders.placed")
        assert line.split()[-1] == "shop"
        shown = [line.split() for line in eventmicro(folder, "describe", "billing", *over).stdout.splitlines()]
        told = {line[0]: line[-1] for line in shown if line and line[0] in ("SUBSCRIBER", "bill", "welcome", "invoice")}
        assert told == {"SUBSCRIBER": "EXCHANGE", "bill": "shop", "welcome": "shop", "invoice": "(default)"}
        document = json.loads(eventmicro(folder, "asyncapi", "--running", "billing", "--format", "json", *over).stdout)
        assert document["channels"]["orders.placed"]["bindings"]["amqp"]["exchange"]["name"] == "shop"
        assert program.end() == 0, program.output


@pytest.mark.timeout_seconds(120)
async def test_the_command_line_publishes_to_and_watches_an_exchange_of_others(
    tmp_path: Path, rabbitmq_url: str
) -> None:
    over = ("--broker", rabbitmq_url)
    subject = f"test-{secrets.token_hex(6)}"
    fanout, direct = f"{subject}.fanout", f"{subject}.direct"
    async with raw_channel(rabbitmq_url) as channel:
        await channel.exchange_declare(fanout, exchange_type="fanout")
        await channel.exchange_declare(direct, exchange_type="direct")
        watching = "subscribe", ">", "--exchange", fanout, "--exchange-type", "fanout", "--count", "2", "--json", *over
        with Program(tmp_path, *watching) as program:
            await asyncio.to_thread(program.line_with, "listening")
            await channel.basic_publish(b'"theirs"', exchange=fanout, routing_key="")
            done = eventmicro(tmp_path, "publish", "orders.placed", '"ours"', "--exchange", fanout, *over)
            assert done.returncode == 0, done.stderr
            await asyncio.to_thread(program.line_with, "theirs")
            await asyncio.to_thread(program.line_with, "orders.placed", "ours")
        wrong = eventmicro(tmp_path, "subscribe", "orders.*", "--exchange", direct, *over)
        assert wrong.returncode != 0
        assert "type is 'direct', asked for is 'topic'" in wrong.stderr
        for name in (fanout, direct):
            await channel.exchange_delete(name)


def test_a_broker_without_exchanges_refuses_one(tmp_path: Path, nats_url: str) -> None:
    done = eventmicro(tmp_path, "publish", "a", "1", "--exchange", "shop", "--broker", nats_url)
    assert done.returncode != 0
    assert "has no exchanges: leave it out" in done.stderr
