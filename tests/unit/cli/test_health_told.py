"""`eventmicro health` for a script: its exit code, and what it says of each node."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from eventmicro import MemoryBroker, Service
from tests.unit.cli.kit import typed


def orders(critical: bool | None) -> Callable[[MemoryBroker], Service]:
    """One whose check fails, a critical one or another; None: all pass."""

    def make(broker: MemoryBroker) -> Service:
        service = Service("orders", broker=broker, id="one")

        @service.health_check(critical=bool(critical))
        def stock() -> None:
            if critical is not None:
                raise ConnectionError("postgres://ann:secret@db is away")

        return service

    return make


WRONG = "stock: ConnectionError: postgres://ann:***@db is away"


@pytest.mark.parametrize(
    ("critical", "code", "status", "wrong"),
    [(None, 0, "ok", ""), (False, 0, "degraded", WRONG), (True, 1, "failing", WRONG)],
)
def test_the_exit_code_is_1_where_a_node_is_not_ready(
    critical: bool | None, code: int, status: str, wrong: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with typed(capsys, orders(critical)) as shell:
        told, out, err = shell("health orders")
        assert (told, err) == (code, "")
        (row,) = out.splitlines()[1:]
        assert row.split(maxsplit=3) == ["orders", "one", status, *([wrong] if wrong else [])]
        told, out, _ = shell("health --json")
        (form,) = json.loads(out)
        assert (told, form["status"], form["ready"], form["live"]) == (code, status, code == 0, True)


def test_the_exit_code_is_1_where_nobody_answers(capsys: pytest.CaptureFixture[str]) -> None:
    with typed(capsys) as shell:
        assert shell("health")[0] == 1
        assert shell("health --json")[:2] == (1, "[]\n")
        assert shell("health orders")[0] == 2
