"""A service with a thousand endpoints: all of them are in every table, each once."""

from __future__ import annotations

import json
import re

from eventmicro import MemoryBroker, Service
from tests.unit.cli.kit import Typed, make_service, shell_over

MANY = 1_000
NAMES = [f"e{number:03}" for number in range(MANY)]


def make(broker: MemoryBroker) -> Service:
    service = make_service(broker, "many")

    async def get(number: int) -> int:
        """What it is."""
        return number

    for name in NAMES:
        service.rpc(name=name)(get)
    return service


shell = shell_over(make)


def test_each_is_told_once_in_each_table(shell: Typed) -> None:
    """One test, as it takes its time to start so many."""
    for line in ("services", "describe many", "stats"):
        code, table, err = shell(line)
        assert (code, err) == (0, "")
        assert sorted(re.findall(r"\be\d{3}\b", table)) == NAMES, line
    assert len(json.loads(shell("stats --json")[1])[0]["endpoints"]) == MANY
    for line in ("nodes", "health"):
        assert len(shell(line)[1].splitlines()) == 2, line
    assert shell(f"call many.{NAMES[-1]} 7")[1] == "7\n"
    assert len(json.loads(shell("asyncapi --running many --format json")[1])["operations"]) == MANY
