"""Heard: how much is kept of what others say of who is there, whoever they are: so many nodes, and so many bytes."""

from __future__ import annotations

from eventmicro.registry import ServiceRecord
from eventmicro.roster import Key

# How many nodes of others are kept: a fleet of 500 machines with 100 services each has a quarter of them.
NODES = 200_000
# How many bytes their records may have in all, as JSON: a node of those has some hundred, and what a version can do,
# which its nodes share, some ten thousand.
BYTES = 128 * 1024 * 1024


class Heard:
    """The nodes that are kept as others have told of them, and what their records weigh.

    size: in bytes, as JSON; endpoints that several records share count once.
    """

    def __init__(self) -> None:
        self.size = 0
        self._nodes: dict[Key, tuple[int, ServiceRecord]] = {}
        self._endpoints: dict[int, tuple[int, int]] = {}  # by the identity of a list: how many have it, and its bytes

    def __len__(self) -> int:
        return len(self._nodes)

    @property
    def is_full(self) -> bool:
        """Whether there is room for nobody else."""
        return len(self._nodes) >= NODES or self.size >= BYTES

    def put(self, key: Key, record: ServiceRecord) -> None:
        """This is kept of a node, in place of what was."""
        number = id(record.endpoints)
        count, size = self._endpoints.get(number) or (0, _size(record, of_endpoints=True))
        if not count:
            self.size += size
        self._endpoints[number] = count + 1, size
        self.remove(key)  # after that: the new one may share with the former
        own = _size(record, of_endpoints=False)
        self.size += own
        self._nodes[key] = own, record

    def remove(self, key: Key) -> None:
        """Nothing is kept of a node."""
        if (former := self._nodes.pop(key, None)) is None:
            return
        own, record = former
        number = id(record.endpoints)
        count, size = self._endpoints.pop(number)
        self.size -= own
        if count > 1:
            self._endpoints[number] = count - 1, size
        else:
            self.size -= size


def _size(record: ServiceRecord, *, of_endpoints: bool) -> int:
    """How many bytes of JSON the endpoints of a record have, or all the rest of it."""
    endpoints = {"endpoints"}
    return len(record.model_dump_json(include=endpoints) if of_endpoints else record.model_dump_json(exclude=endpoints))
