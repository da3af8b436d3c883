"""Fetching: records as aiokafka's parser has them, without a ConsumerRecord made of each."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any


def leave_records_bare(consumer: Any) -> None:
    """Have a consumer that was started return records that have an offset, key, value and headers, and no topic.

    To make a ConsumerRecord of each takes longer than to parse it.
    """
    fetcher = consumer._fetcher
    fetcher._records = _Fetched(fetcher._records)


class _Fetched(OrderedDict[Any, Any]):
    """What was fetched and not returned yet, by partition: each a parser that has not begun, or an error."""

    def __setitem__(self, place: Any, fetched: Any) -> None:
        parser = getattr(fetched, "_partition_records", None)
        if parser is not None:
            parser._consumer_record = _as_it_is
        super().__setitem__(place, fetched)


def _as_it_is(place: Any, record: Any) -> Any:
    return record
