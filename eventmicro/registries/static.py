"""StaticRegistry: who is there by settings, for services that never move, and for tests."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from urllib.parse import unquote, urlsplit

from pydantic import TypeAdapter, ValidationError

from eventmicro.errors import UsageError
from eventmicro.lifetime import Lifetime
from eventmicro.registry import Change, ServiceRecord, check_record
from eventmicro.roster import Roster


class StaticRegistry(Lifetime):
    """A registry that is written down; what registers there is not added. See `eventmicro.registry.Registry`.

    Args:
        services: a URL, `static:///path/to/services.json`, of a file with a list of registry records as
            `eventmicro services --json` prints it; or the records themselves.

    Raises:
        UsageError: the file cannot be read, or holds something else; a record has no node, or no name.
    """

    def __init__(self, services: str | Iterable[ServiceRecord]) -> None:
        self.url = services if isinstance(services, str) else "static://"
        self._roster = Roster()
        for service in _read(services) if isinstance(services, str) else services:
            self._roster.put(check_record(service))

    async def connect(self) -> None:
        pass

    async def close(self) -> None:
        pass

    async def register(self, service: ServiceRecord, *, ttl: float) -> None:
        check_record(service)

    async def deregister(self, service: ServiceRecord) -> None:
        pass

    async def get_service(self, name: str) -> list[ServiceRecord]:
        return self._roster.find(name, self.url, known="is written down")

    async def list_services(self) -> list[ServiceRecord]:
        return self._roster.all()

    async def watch(self, name: str | None = None) -> AsyncIterator[Change]:
        here = self._roster.all() if name is None else self._roster.get(name)
        for change in Roster().replace(here):
            yield change
        yield Change("synced")
        await asyncio.get_running_loop().create_future()  # nothing ever changes


def _read(url: str) -> list[ServiceRecord]:
    parts = urlsplit(url)
    path = Path(unquote(parts.netloc + parts.path))
    try:
        return TypeAdapter(list[ServiceRecord]).validate_json(path.read_bytes())
    except OSError as error:
        raise UsageError(
            f"registry {url!r}: {error.strerror}; write static:///path/to/services.json, which holds what "
            f"`eventmicro services --json` prints"
        ) from None
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(map(str, first["loc"])) or "the file"
        raise UsageError(f"registry {url!r}: {place}: {first['msg']}; write a list of registry records") from None
