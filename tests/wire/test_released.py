"""What is released of the wire records stays as it is: other versions, and what brokers keep, have these bytes."""

from __future__ import annotations

from pathlib import Path

import pytest

from eventmicro.testing import World
from tests.unit.testing.shop import Shop
from tests.unit.testing.test_golden_files import a_day
from tests.wire.released import GOLDEN, add_new, broken_promises, not_yet_released, on_record, released

APP = GOLDEN / "app.json"


def test_each_released_record_is_as_it_was() -> None:
    assert len(released()) >= 80
    assert list(broken_promises(on_record(), released())) == []


def test_what_is_changed_or_removed_is_named_and_what_is_new_is_added(tmp_path: Path) -> None:
    golden, listed = tmp_path / "golden", tmp_path / "released.json"
    golden.mkdir()
    (golden / "messages.json").write_text('{"call": [{"body": "1"}], "event": []}')
    (golden / "codecs.json").write_text('{"model": {"json": "{}"}}')
    listed.write_text("{}")
    add_new(golden, listed)
    before = released(listed)
    assert list(before) == ["codecs.json/model/json", "messages.json/call", "messages.json/event"]
    (golden / "messages.json").write_text('{"call": [{"body": "2"}], "answer": []}')
    (golden / "codecs.json").write_text('{"model": {"json": "{}", "cbor": "hex a0"}}')
    changed, removed = broken_promises(on_record(golden), before)
    assert changed.startswith("tests/wire/golden/messages.json/call is not what was released: put it back")
    assert removed.startswith("tests/wire/golden/messages.json/event was released, and is gone: put it back")
    assert not_yet_released(on_record(golden), before) == ["codecs.json/model/cbor", "messages.json/answer"]
    add_new(golden, listed)
    assert list(released(listed)) == [*before, "codecs.json/model/cbor", "messages.json/answer"]
    assert released(listed) | before == released(listed)  # what was broken goes on to be told
    assert len(list(broken_promises(on_record(golden), released(listed)))) == 2


@pytest.mark.timeout_seconds(20)
async def test_golden_files_that_users_have_of_their_own_messages_are_read_and_written_as_before() -> None:
    async with World(*Shop().all) as world:
        await a_day(world)
        world.golden(APP, without=["id"])
