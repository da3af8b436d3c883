"""A stream that stores a subject answers requests on it, too: its receipts, told from the replies of services.

A receipt comes to the reply subject as JSON without a header, as a service's reply does, and before that; where nobody
serves the subject it comes in place of the server's 503. By itself it says nothing for sure, for a service may reply
the same. So what has exactly its form is only marked here, and the stream is looked up for the request's subject.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from nats.errors import Error, NoRespondersError

from eventmicro.errors import EventMicroError
from eventmicro.wire import DESCRIPTION, STATUS, STORED
from eventmicro_nats.connection.driver import Driver
from eventmicro_nats.connection.subjects import covers

# How long all questions for one answer may take together, in seconds.
TIMEOUT = 1.0
# For how long an answer holds, in seconds: calls that follow one another closely ask once.
REMEMBERED = 1.0
# How many other domains are asked, too: those that receipts came from.
MAX_DOMAINS = 8

_KEYS = frozenset({"stream", "seq", "domain", "duplicate", "val", "batch", "count", "error"})
_TYPES = {"stream": str, "seq": int, "domain": str, "duplicate": bool, "val": str, "batch": str, "count": int}


class Storage:
    """Which streams store a subject, by asking the server.

    Args:
        driver: gives the connection of the moment, or raises Disconnected.
    """

    def __init__(self, driver: Callable[[], Driver]) -> None:
        self._driver = driver
        self._domains: set[str] = set()
        self._asking = asyncio.Lock()
        self._known: dict[str, tuple[float, dict[str, list[str]] | None]] = {}
        self._refused: asyncio.Future[None] | None = None

    def mark(self, body: bytes) -> dict[str, str] | None:
        """The headers for a body without any: those of something stored, where it has the form of a receipt."""
        receipt = read_receipt(body)
        if receipt is None:
            return None
        domain = receipt.get("domain", "")
        if domain and len(self._domains) < MAX_DOMAINS:
            self._domains.add(domain)
        return {STATUS: STORED, DESCRIPTION: _name(receipt["stream"], domain)}

    async def stores(self, subjects: Sequence[str]) -> Mapping[str, Sequence[str]] | None:
        """See `eventmicro.broker.StoresRequests`."""
        question = " ".join(sorted(subjects))
        async with self._asking:
            now = time.monotonic()
            self._known = {what: known for what, known in self._known.items() if known[0] > now}
            if question not in self._known:
                found = await self._look(subjects)
                self._known[question] = time.monotonic() + REMEMBERED, found
            return self._known[question][1]

    def refused(self, text: str) -> bool:
        """The server has refused something, in its own words; whether it was a question of ours."""
        text = text.lower()
        if self._refused is None or "$js." not in text or ".api.stream." not in text:
            return False
        if not self._refused.done():
            self._refused.set_result(None)
        return True

    async def _look(self, subjects: Sequence[str]) -> dict[str, list[str]] | None:
        """What is found within a moment; None where the server does not say."""
        self._refused = asyncio.get_running_loop().create_future()
        looking = asyncio.ensure_future(self._find(subjects))
        try:
            outcomes: list[asyncio.Future[Any]] = [looking, self._refused]
            await asyncio.wait(outcomes, timeout=TIMEOUT, return_when=asyncio.FIRST_COMPLETED)
            return looking.result() if looking.done() else None
        except (Error, EventMicroError, OSError, ValueError, LookupError, TypeError):
            return None
        finally:
            self._refused = None
            looking.cancel()
            await asyncio.gather(looking, return_exceptions=True)

    async def _find(self, subjects: Sequence[str]) -> dict[str, list[str]]:
        """The names of streams by subject: one question where there are none."""
        found: dict[str, list[str]] = {}
        for domain in ("", *self._domains):
            names = await self._ask(domain, "STREAM.NAMES", {"subject": _common(subjects)})
            for stream in names.get("streams") or ():
                config = (await self._ask(domain, f"STREAM.INFO.{stream}", {})).get("config") or {}
                for subject in subjects:
                    if any(covers(pattern, subject) for pattern in config.get("subjects") or ()):
                        found.setdefault(subject, []).append(_name(stream, domain or self._own_domain()))
        return found

    def _own_domain(self) -> str:
        return str(self._driver().info.get("domain", ""))

    async def _ask(self, domain: str, what: str, arguments: dict[str, Any]) -> dict[str, Any]:
        """The server's answer; an empty one where there is no JetStream."""
        prefix = f"$JS.{domain}.API" if domain else "$JS.API"
        with suppress(NoRespondersError):
            answer = await self._driver().request(f"{prefix}.{what}", json.dumps(arguments).encode(), timeout=TIMEOUT)
            read: dict[str, Any] = json.loads(answer.data)
            return read
        return {}


def read_receipt(body: bytes) -> dict[str, Any] | None:
    """A receipt, of what was stored or of why it was not; None where it is none by its form."""
    with suppress(ValueError, RecursionError):
        receipt = json.loads(body)
        if isinstance(receipt, dict) and receipt.keys() <= _KEYS and {"stream", "seq"} <= receipt.keys():
            error = receipt.get("error", {})
            right = all(isinstance(value, _TYPES[key]) for key, value in receipt.items() if key != "error")
            return receipt if right and isinstance(error, dict) else None
    return None


def _name(stream: str, domain: str) -> str:
    return f"stream {stream} of the domain {domain}" if domain else f"stream {stream}"


def _common(subjects: Sequence[str]) -> str:
    """One subject, or what matches all of these where they begin alike."""
    first = {subject.partition(".")[0] for subject in subjects}
    if len(subjects) == 1:
        return subjects[0]
    return f"{first.pop()}.>" if len(first) == 1 else ">"
