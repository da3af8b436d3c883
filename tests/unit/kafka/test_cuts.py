"""Kafka: what is left of a queue's progress where a log has lost its end, by the epochs of its leaders."""

from __future__ import annotations

import logging
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.errors import LeaderNotAvailableError
from aiokafka.protocol.fetch import FetchRequest
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from eventmicro_kafka.connection.epochs import Epochs, note_epochs
from eventmicro_kafka.connection.protocol import UNKNOWN
from eventmicro_kafka.consuming.cuts import as_far_as_there, end_of_known
from eventmicro_kafka.consuming.lane import Lane
from eventmicro_kafka.consuming.member import Member
from eventmicro_kafka.consuming.progress import epoch_of, read_progress, topic_of, up_to, with_topic
from eventmicro_kafka.settings import KafkaSettings

PLACE, OTHER = TopicPartition("t", 0), TopicPartition("t", 1)
IDS = "0123456789abcdef0123456789abcdef"


def batch(first: int, epoch: int, size: int = 2) -> bytes:
    """A batch of records, as the leader of this epoch has stored it."""
    builder = DefaultRecordBatchBuilder(2, 0, False, -1, -1, 0, 10_000)
    for n in range(size):
        assert builder.append(n, timestamp=1, key=None, value=b"x", headers=[])
    data = bytearray(builder.build())
    data[:8], data[12:16] = first.to_bytes(8, "big"), epoch.to_bytes(4, "big")
    return bytes(data)


class Cluster:
    """A consumer's cluster: where its logs end, under which epoch and at all.

    Attributes:
        ends: where the log ends of what was stored under the epoch that is asked for; those that are missing: not told.
        log_ends: where it ends at all.
        trouble: what each question meets.
    """

    def __init__(self, ends: dict[Any, int], log_ends: dict[Any, int] | None = None) -> None:
        self.ends, self.log_ends = ends, log_ends or {}
        self.trouble: Exception | None = None
        self.committed: dict[Any, tuple[int, str]] = {}
        self.cluster = SimpleNamespace(leader_for_partition=lambda place: 1)
        self._client = self
        self._coordinator = self
        self.group_id = "q"

    async def send(self, node: int, request: Any, **_: Any) -> Any:
        if self.trouble is not None:
            raise self.trouble
        found = [(t, [self._end(t, *asked) for asked in places]) for t, places in request._topics]
        return SimpleNamespace(topics=found)

    def _end(self, topic: str, number: int, _: int, epoch: int) -> tuple[int, int, int, int]:
        end = self.ends.get(TopicPartition(topic, number))
        return (0, number, UNKNOWN, -1) if end is None else (0, number, epoch, end)

    async def force_metadata_update(self) -> None:
        """Nothing new."""

    async def end_offsets(self, places: list[Any]) -> dict[Any, int]:
        return {place: self.log_ends[place] for place in places}


@pytest.fixture(autouse=True)
def commits(monkeypatch: pytest.MonkeyPatch) -> None:
    async def commit(consumer: Cluster, offsets: dict[Any, tuple[int, str]]) -> None:
        consumer.committed |= offsets

    monkeypatch.setattr("eventmicro_kafka.consuming.cuts.commit_patiently", commit)


# -- epochs ----------------------------------------------------------------------------------------------------


def test_of_each_record_that_was_fetched_is_known_under_which_leader_it_was_stored() -> None:
    epochs = Epochs()
    epochs.note(PLACE, batch(0, 3) + batch(2, 3) + batch(4, 5))
    assert [epochs.of(PLACE, offset) for offset in (0, 3, 4, 9)] == [3, 3, 5, 5]
    assert (epochs.of(OTHER, 0), Epochs().of(PLACE, 0)) == (UNKNOWN, UNKNOWN)
    assert (epochs.begin_after(PLACE, 3), epochs.begin_after(PLACE, 5)) == (4, None)


def test_what_has_taken_the_place_of_records_counts_in_place_of_them() -> None:
    epochs = Epochs()
    epochs.note(PLACE, batch(0, 3) + batch(2, 4) + batch(4, 4))
    epochs.note(PLACE, batch(1, 6))
    assert [epochs.of(PLACE, offset) for offset in (0, 1, 4)] == [3, 6, 6]


def test_a_batch_that_is_not_whole_and_leaders_without_end_do_no_harm() -> None:
    epochs = Epochs()
    epochs.note(PLACE, (batch(0, 3) + batch(2, 4))[:-5] + b"")
    epochs.note(PLACE, batch(10, 4)[:10])
    assert epochs.of(PLACE, 2) == 4
    for number in range(1000):
        epochs.note(PLACE, batch(2 * number, number))
    assert len(epochs._begins[PLACE]) < 100
    assert epochs.of(PLACE, 1999) == 999


async def test_the_epochs_are_those_of_the_batches_in_the_answers_to_fetches() -> None:
    async def send(node: int, request: Any, *, group: int) -> Any:
        return SimpleNamespace(topics=[("t", [(0, 0, 9, 9, None, batch(5, 7)), (1, 1, -1, -1, None, b"")])])

    consumer: Any = SimpleNamespace(_client=SimpleNamespace(send=send))
    epochs = note_epochs(consumer)
    await consumer._client.send(1, FetchRequest(0, 0, 0, 0, []))
    assert (epochs.of(PLACE, 5), epochs.of(OTHER, 0)) == (7, UNKNOWN)


# -- progress ----------------------------------------------------------------------------------------------------


def test_a_place_says_of_which_epoch_it_is_and_others_read_the_rest_of_it() -> None:
    said = with_topic("em1:5:0,2*3", IDS, 7)
    assert said == f"em1:5:0,2*3:{IDS}:7"
    assert (epoch_of(said), topic_of(said), read_progress(10, said)) == (7, IDS, (15, {10: 0, 12: 3}))
    assert (epoch_of(with_topic("", "", 0)), topic_of(with_topic("", "", 0))) == (0, "")
    assert with_topic("", "") == ""


@pytest.mark.parametrize("text", ["", "em1:", "em1:5:0", f"em1:5:0:{IDS}", f"em1:5:0:{IDS}:x", '{"a": 1}'])
def test_a_place_of_an_earlier_version_or_of_others_says_of_no_epoch(text: str) -> None:
    assert epoch_of(text) == UNKNOWN


@pytest.mark.parametrize(
    ("end", "place", "known_until", "unfinished"),
    [
        (120, 100, 110, {100: 0, 105: 2}),
        (106, 100, 106, {100: 0, 105: 2}),
        (104, 100, 104, {100: 0}),
        (100, 100, 100, {}),
        (90, 90, 90, {}),
    ],
)
def test_what_is_known_ends_where_the_log_does(
    end: int, place: int, known_until: int, unfinished: dict[int, int]
) -> None:
    offset, metadata = up_to(end, 100, f"em1:10:0,5*2:{IDS}:7")
    assert (offset, read_progress(offset, metadata)) == (place, (known_until, unfinished))
    assert (topic_of(metadata), epoch_of(metadata)) == (IDS, 7)


# -- a place that is taken over ------------------------------------------------------------------------------------


async def test_a_place_that_knows_more_than_there_is_is_cut_committed_and_told(
    caplog: pytest.LogCaptureFixture,
) -> None:
    found = {PLACE: (100, f"em1:10:0:{IDS}:7"), OTHER: (100, f"em1:10:0:{IDS}:7")}
    consumer = Cluster({PLACE: 104, OTHER: 200})
    left = await as_far_as_there(consumer, "q", found)
    assert left == {PLACE: (100, f"em1:4:0:{IDS}:7"), OTHER: found[OTHER]}
    assert consumer.committed == {PLACE: left[PLACE]}
    (record,) = caplog.records
    assert "queue 'q'" in record.message
    assert "the log of t-0" in record.message
    assert "offsets 104 to 109, which this queue knew, are gone" in record.message


async def test_where_a_place_says_of_no_epoch_nothing_behind_it_counts_once_the_log_ends_before_that() -> None:
    """An earlier version has committed it; where the new events begin nobody knows."""
    found = {PLACE: (100, f"em1:10:0:{IDS}"), OTHER: (100, f"em1:10:0:{IDS}")}
    left = await as_far_as_there(Cluster({}, {PLACE: 109, OTHER: 110}), "q", found)
    assert left == {PLACE: (100, f"em1:0::{IDS}"), OTHER: found[OTHER]}


async def test_where_a_broker_knows_nothing_of_an_epoch_the_end_of_the_log_is_what_counts() -> None:
    found = {PLACE: (100, f"em1:10:0:{IDS}:7")}
    assert await as_far_as_there(Cluster({}, {PLACE: 109}), "q", found) == {PLACE: (100, f"em1:0::{IDS}")}


async def test_a_place_of_others_and_one_with_nothing_behind_it_are_as_they_were() -> None:
    found = {PLACE: (100, "theirs"), OTHER: (100, f"em1:0::{IDS}")}
    assert await as_far_as_there(Cluster({}), "q", found) == found


@pytest.mark.parametrize("error", [LeaderNotAvailableError(), OSError("lost"), NotImplementedError("too old")])
async def test_where_it_is_not_told_places_are_taken_over_as_they_are(
    error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    found, consumer = {PLACE: (100, f"em1:10:0:{IDS}:7")}, Cluster({})
    consumer.trouble = error
    with caplog.at_level(logging.WARNING):
        assert await as_far_as_there(consumer, "q", found) == found
    assert not caplog.records


# -- a leader that changes at work ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("end", "cut"), [(104, 104), (110, None), (300, None)])
async def test_a_lane_is_cut_where_the_log_of_the_leader_that_it_knows_ends(end: int, cut: int | None) -> None:
    lane = Lane(PLACE, (100, f"em1:10:0:{IDS}:7"), SimpleNamespace(held=0))
    assert await end_of_known(Cluster({PLACE: end}), lane, Epochs()) == cut


@pytest.mark.parametrize(("begin", "cut"), [(104, 104), (110, None)])
async def test_where_no_leader_says_it_a_lane_is_cut_where_batches_of_a_later_one_begin(
    begin: int, cut: int | None
) -> None:
    lane, epochs = Lane(PLACE, (100, f"em1:10:0:{IDS}:7"), SimpleNamespace(held=0)), Epochs()
    epochs.note(PLACE, batch(100, 7) + batch(begin, 9))
    assert await end_of_known(Cluster({}), lane, epochs) == cut


# -- what a member reads of a log that is whole --------------------------------------------------------------------


class Log:
    """A member's share: one partition, whose records up to 1000 are of epoch 3 and those behind of epoch 5.

    Attributes:
        ends: where the log ends of what was stored under an epoch, or before.
        sought: from where it was read again.
    """

    def __init__(self, committed: tuple[int, str]) -> None:
        self.held, self.taken = 0, list[int]()
        self.sought, self.ends = list[int](), {3: 1000, 5: 1500}
        self.lanes: dict[Any, Lane] = {PLACE: Lane(PLACE, committed, self)}
        self.member = Member(KafkaSettings(), "q", ["t"], {}, "t", self)  # type: ignore[arg-type]
        self.member._epochs.note(PLACE, batch(400, 3) + batch(1000, 5))
        self.member._shared.set()
        self.cluster = SimpleNamespace(leader_for_partition=lambda place: 1)
        self._client = self._subscription = self
        self.subscription: Any = SimpleNamespace(assignment=object())

    async def send(self, node: int, request: Any, **_: Any) -> Any:
        asked = [(topic, place) for topic, places in request._topics for place in places]
        found = [(t, [(0, n, epoch, self.ends[epoch])]) for t, (n, _, epoch) in asked]
        return SimpleNamespace(topics=found)

    def settled(self) -> None:
        """Nobody commits here."""

    def take(self, lane: Lane, records: list[Any]) -> None:
        lane.next = records[-1].offset + 1
        self.taken += [record.offset for record in lane.unfinished_of(records)]

    def seek(self, place: Any, offset: int) -> None:
        self.sought.append(offset)

    def assignment(self) -> set[Any]:
        return {PLACE}

    async def read(self, *batches: range) -> None:
        for offsets in batches:
            await self.member._take(self, {PLACE: [SimpleNamespace(offset=offset) for offset in offsets]})


@pytest.mark.parametrize("said", ["5", ""])
async def test_a_log_that_is_whole_is_taken_for_no_other_where_its_leader_changed_in_what_is_known(
    said: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A gap is read over many batches, the first of them of the leader before."""
    log = Log((400, f"em1:1100:0:{IDS}:{said}"))
    await log.read(range(400, 528), range(528, 1000))
    place = log.lanes[PLACE].progress()
    assert (epoch_of(place[1]), read_progress(*place)[0]) == (int(said or UNKNOWN), 1500)
    await log.read(range(1000, 1500), range(1500, 1502))
    assert (log.taken, log.sought, caplog.records) == ([400, 1500, 1501], [], [])
    assert log.lanes[PLACE].epoch == 5


async def test_a_log_that_goes_on_under_another_leader_with_what_is_no_event_is_whole(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """As with the end of a transaction, which is passed by."""
    monkeypatch.setattr("eventmicro_kafka.consuming.member.returned_up_to", lambda *_: 1001)
    log = Log((998, f"em1:0::{IDS}:3"))
    await log.read(range(998, 1000))
    log.member._pass_by_what_is_no_event(log)
    assert log.lanes[PLACE].progress() == (1001, "em1:0:::5")
    await log.read(range(1001, 1002))
    assert (log.sought, caplog.records) == ([], [])


async def test_a_log_that_was_cut_in_what_is_known_is_read_again_from_there() -> None:
    log = Log((400, f"em1:1100:0:{IDS}:5"))
    log.ends[5] = 1200
    log.member._epochs.note(PLACE, batch(1200, 7))
    await log.read(range(400, 528), range(528, 1200), range(1200, 1202))
    assert log.sought == [1200]
    assert log.lanes[PLACE].known_until == 1200


# -- events that the broker has deleted ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("offset", "said"),
    [(1500, "2 events of t-0, offsets 400 to 410,"), (1502, "4 events of t-0, offsets 400 to 1501,"), (400, "")],
)
def test_of_events_that_were_deleted_those_are_named_that_were_not_finished(
    offset: int, said: str, caplog: pytest.LogCaptureFixture
) -> None:
    log = Log((400, f"em1:1100:0,10:{IDS}:5"))
    log.member._count_lost(log.lanes[PLACE], offset)
    found = [record.message for record in caplog.records]
    assert [text.partition(": ")[2].partition(" were deleted")[0] for text in found] == ([said] if said else [])
    assert all("by the broker before they were finished" in text for text in found)
