"""What a member of a transactional queue commits when its partitions move while a transaction is on its way."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import pytest
from eventmicro_kafka.consuming import member
from eventmicro_kafka.consuming.lane import Lane
from eventmicro_kafka.consuming.member import Member
from eventmicro_kafka.settings import KafkaSettings

from tests.unit.kafka.kit import PLACE


class Owner:
    """Has one partition, all of which is finished, and nothing to pause for."""

    held = 0

    def __init__(self) -> None:
        self.lanes = {PLACE: Lane(PLACE, (5, ""), self)}  # type: ignore[arg-type]
        self.lanes[PLACE].next = 7

    async def pause(self) -> None:
        """Nothing is being handled."""


class Group:
    """Where a member commits; what it committed."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.committed: list[Mapping[Any, tuple[int, str]]] = []
        self.owner = Owner()
        self.member = Member(KafkaSettings(), "q", ["t"], {}, "t", self.owner)  # type: ignore[arg-type]
        self.member._consumer = SimpleNamespace(assignment=lambda: {PLACE}, subscribe=lambda *_, **__: None)
        monkeypatch.setattr(member, "commit", self._commit)

    async def _commit(self, consumer: Any, wanted: Mapping[Any, tuple[int, str]], _: Any) -> None:
        self.committed.append(wanted)


@pytest.fixture
def group(monkeypatch: pytest.MonkeyPatch) -> Group:
    return Group(monkeypatch)


@pytest.mark.parametrize("moves", ["revoked", "followed"])
async def test_what_is_finished_is_committed_when_the_transaction_that_is_on_its_way_has_ended(
    group: Group, moves: str
) -> None:
    """Also where the next one waits already."""
    begun, may_end = asyncio.Event(), asyncio.Event()

    async def transact() -> None:
        for _ in range(2):
            async with group.member.no_commits():
                begun.set()
                await may_end.wait()

    transactions = asyncio.create_task(transact())
    await begun.wait()
    revoked = group.member.on_partitions_revoked({PLACE}) if moves == "revoked" else group.member.follow(["t", "u"])
    moving = asyncio.create_task(revoked)
    for _ in range(5):
        await asyncio.sleep(0)
    assert (moving.done(), group.committed, await group.member.commit()) == (False, [], False)
    may_end.set()
    await asyncio.gather(transactions, moving)
    assert group.committed == [{PLACE: (7, "")}]


async def test_one_that_does_not_end_keeps_no_partition(group: Group, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(member, "COMMIT_TIMEOUT", 0.01)
    async with group.member.no_commits():
        await group.member.on_partitions_revoked({PLACE})
    assert group.committed == []
    assert await group.member.commit()
