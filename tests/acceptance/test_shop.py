"""The shop: five services over two brokers, killed meanwhile, and its books balance."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from eventmicro_nats.embedded import EmbeddedServer

from tests.processes import Program, eventmicro, wait_until

CHECKOUT = Path(__file__).parents[2]


def run(folder: Path, *options: str, **settings: str) -> str:
    """Run the shop; what it prints."""
    ours = {name: value for name, value in os.environ.items() if "BROKER" not in name and "EVENTMICRO" not in name}
    ours |= {"PYTHONPATH": str(CHECKOUT), "PYTHONUTF8": "1", "TMPDIR": str(folder)}
    command = [sys.executable, "-m", "examples.shop", *options]
    done = subprocess.run(command, cwd=folder, env=ours | settings, capture_output=True, encoding="utf-8", timeout=240)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_its_books_balance_though_services_are_killed(tmp_path: Path) -> None:
    output = run(tmp_path, "--orders", "200", "--kills", "3")
    assert "The books balance: 200 orders, 3 kills, nothing lost, nothing done twice." in output
    assert list(tmp_path.iterdir()) == []  # neither data nor a server is left


@pytest.mark.parametrize("broker", ["rabbitmq_url", "kafka_url"])
def test_events_and_calls_go_over_two_brokers(broker: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    calls = EmbeddedServer(tmp_path / "nats")
    calls.start()
    try:
        events = request.getfixturevalue(broker)
        output = run(tmp_path, "--orders", "50", "--kills", "0", BROKER=events, RPC_BROKER=calls.url)
    finally:
        calls.stop()
    assert "The books balance: 50 orders, 0 kills, nothing lost, nothing done twice." in output


def test_its_folder_is_run_by_one_command(tmp_path: Path) -> None:
    ours = {"PYTHONPATH": str(CHECKOUT), "SHOP_DATA": str(tmp_path)}
    order = {"number": "1", "customer": "ann", "email": "ann@example.org", "basket": {"tea": 2}}

    def call(endpoint: str, *body: str) -> object:
        done = eventmicro(tmp_path, "call", endpoint, *body)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    with Program(tmp_path, "run", str(CHECKOUT / "examples/shop"), env=ours) as program:
        program.line_with("Order -> Placed")
        assert call("orders.place", json.dumps(order)) == {"order": order, "cents": 900}
        wait_until(lambda: call("orders.outcomes") == {"Shipped": 1})
        assert program.end(signal.SIGINT) == 0
    for name in ("stock", "cards", "shipping", "mail", "orders"):
        assert f"{name} on jetstream://127.0.0.1:" in program.output
    assert program.output.count("started an embedded server") == 1
