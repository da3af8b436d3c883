"""Agent: the HTTP API of one Consul agent, with its blocking queries."""

from __future__ import annotations

import asyncio
import json
import logging
from contextlib import nullcontext
from typing import Any

import httpx2

from eventmicro.errors import Unavailable, UsageError
from eventmicro_consul.settings import ConsulSettings

# How many requests are under way at once, beside those that wait for something to change: an agent takes no more than
# 200 connections of one machine.
AT_ONCE = 16
# By how much of its time Consul lets a query wait longer, so that not all of them end together.
JITTER = 1 / 16


# It says a line for each request, which would be one for each heartbeat; who wants them sets the level himself.
if logging.getLogger("httpx2").level == logging.NOTSET:
    logging.getLogger("httpx2").setLevel(logging.WARNING)


class Unknown(Exception):
    """The agent does not know what was named: it was started anew, or has taken it away."""


class Agent:
    """A connection to one agent; it opens nothing before the first request."""

    def __init__(self, settings: ConsulSettings) -> None:
        self._settings = settings
        self._turn = asyncio.Semaphore(AT_ONCE)
        self._url = f"{'https' if settings.tls else 'http'}://{settings.server}/v1/"
        self._client = httpx2.AsyncClient(
            verify=settings.ssl_context() or False,
            limits=httpx2.Limits(max_connections=None, max_keepalive_connections=4, keepalive_expiry=60),
            headers={"X-Consul-Token": settings.token} if settings.token else {},
            trust_env=False,
            timeout=None,
        )

    async def close(self) -> None:
        await self._client.aclose()

    async def put(self, path: str, body: dict[str, Any] | None = None) -> None:
        """Order something.

        Raises:
            Unknown: the agent does not know what the path names.
            Unavailable: it does not answer within `timeout`, or its cluster has no leader.
            UsageError: it refuses.
        """
        await self._ask("PUT", path, self._settings.timeout, json=body)

    async def get(self, path: str, index: int = 0, **parameters: str) -> tuple[Any, int]:
        """What is there, and the index of that; as soon as it is another one than `index`, or `wait` is over.

        Raises:
            Unavailable, UsageError: as of `put`.
        """
        longest = self._settings.timeout
        if index:
            parameters |= {"index": str(index), "wait": f"{self._settings.wait * 1000:.0f}ms"}
            longest += self._settings.wait * (1 + JITTER)
        try:
            response = await self._ask("GET", path, longest, waits=bool(index), params=parameters)
            found, now = json.loads(response.content), int(response.headers.get("X-Consul-Index", 0))
        except (Unknown, ValueError) as error:
            raise self._away(f"{path}: {error}") from None
        # An index that goes back is of a server that has lost its data: it would wait for what it had before.
        return found, now if now >= index else 0

    async def _ask(self, method: str, path: str, longest: float, waits: bool = False, **what: Any) -> httpx2.Response:
        try:
            async with asyncio.timeout(longest), nullcontext() if waits else self._turn:
                response = await self._client.request(method, self._url + path, **what)
        except TimeoutError:
            raise self._away(f"no answer within {longest:.3g} s") from None
        except (httpx2.HTTPError, RuntimeError) as error:
            raise self._away(str(error) or type(error).__name__) from error
        if response.status_code == 200:
            return response
        text = response.text.strip()[:200]
        if response.status_code == 404 or "nknown check" in text or "nknown service" in text:
            raise Unknown(text)
        if response.status_code in (429, 500, 502, 503, 504):
            raise self._away(f"{response.status_code} {text}")
        raise UsageError(f"{self._settings.address} refuses {path}: {response.status_code} {text}")

    def _away(self, why: str) -> Unavailable:
        return Unavailable(f"{self._settings.address}: {why}", id=self._settings.address)
