"""Progress: what a commit says of a partition beyond its offset, in the metadata that Kafka keeps beside it.

The offset is that of the first event that is not finished. The metadata says which others before a certain one are not,
and how often each was delivered again, so that whoever takes the partition over repeats no more than it has to. It
also says of which topic the place is: one that was deleted and made again under its name has others; and of which epoch
the last is that is known: a later leader that has lost the end of the log gives its offsets anew.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from eventmicro_kafka.connection.protocol import UNKNOWN

# What the metadata begins with; another program's is left alone.
MARK = "em1:"
# How long it may be; Kafka's own limit is 4096 bytes, offset.metadata.max.bytes.
LONGEST = 4000


def write_progress(
    first: int, end: int, unfinished: Iterable[int], again: Mapping[int, int], longest: int = LONGEST
) -> str:
    """The metadata for a partition whose first unfinished offset is `first`, of all before `end`.

    `unfinished` are the offsets in order; `again` is how often some of them were delivered again. As many are named
    as there is room for, in so many bytes; what is behind them counts as not seen.
    """
    parts: list[str] = []
    size = 0
    for offset in unfinished:
        times = again.get(offset, 0)
        part = f"{offset - first}*{times}" if times else str(offset - first)
        size += len(part) + 1
        if size > longest:
            end = offset
            break
        parts.append(part)
    return f"{MARK}{end - first}:{','.join(parts)}" if parts else ""


def read_progress(first: int, metadata: str) -> tuple[int, dict[int, int]]:
    """Up to which offset is known what is finished, and what is not: how often each was delivered again by then."""
    if not metadata.startswith(MARK):
        return first, {}
    try:
        end, listed, *_ = metadata.removeprefix(MARK).split(":")
        if not listed:
            return first + int(end), {}
        unfinished: dict[int, int] = {}
        for part in listed.split(","):
            offset, _, times = part.partition("*")
            unfinished[first + int(offset)] = int(times or 0)
        return first + int(end), unfinished
    except ValueError:  # somebody else's after all
        return first, {}


def is_finished(offset: int, first: int, metadata: str) -> bool:
    """Whether a place says of an event that it is finished."""
    end, unfinished = read_progress(first, metadata)
    return offset < end and offset not in unfinished


def with_topic(metadata: str, topic_id: str, epoch: int = UNKNOWN) -> str:
    """The metadata that also says of which topic the place is, and of which epoch, if that is known."""
    if not topic_id and epoch == UNKNOWN:
        return metadata
    return f"{metadata or f'{MARK}0:'}:{topic_id}" + ("" if epoch == UNKNOWN else f":{epoch}")


def topic_of(metadata: str) -> str:
    """The id of the topic of which a place is; empty: it does not say, as another program's does not."""
    parts = _parts(metadata)
    return parts[2] if len(parts) > 2 else ""


def epoch_of(metadata: str) -> int:
    """Under which leader of its partition the last was stored of what is known; UNKNOWN: it does not say."""
    parts = _parts(metadata)
    return int(parts[3]) if len(parts) > 3 and parts[3].isdecimal() else UNKNOWN


def up_to(end: int, first: int, metadata: str) -> tuple[int, str]:
    """What is left of a place, and of what is known behind it, where the log has what is known up to `end` alone."""
    known_until, unfinished = read_progress(first, metadata)
    left = {offset: times for offset, times in unfinished.items() if offset < end}
    first, until = min(first, end), min(known_until, end)
    again = {offset: times for offset, times in left.items() if times}
    listed = sorted(left) if until > first else []
    return first, with_topic(write_progress(first, until, listed, again), topic_of(metadata), epoch_of(metadata))


def _parts(metadata: str) -> list[str]:
    return metadata.removeprefix(MARK).split(":") if metadata.startswith(MARK) else []


def is_of_another(metadata: str, topic_id: str) -> bool:
    """Whether a place is of an earlier topic of the same name."""
    said = topic_of(metadata)
    return bool(said and topic_id) and said != topic_id
