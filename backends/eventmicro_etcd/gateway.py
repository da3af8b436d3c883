"""Gateway: etcd's JSON gateway, at whichever member answers, logged in where a user is set.

Keys and values are base64 there, 64-bit numbers are strings, and what is zero is left out.
"""

from __future__ import annotations

import asyncio
import json
import logging
import random
from base64 import b64decode, b64encode
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any

import httpx2

from eventmicro.errors import Unavailable, UsageError
from eventmicro_etcd.settings import EtcdSettings

# gRPC's numbers for what a server answers.
DEADLINE, NOT_FOUND, DENIED, NO_LOGIN_NEEDED, AWAY, NOT_LOGGED_IN = 4, 5, 7, 9, 14, 16
# How many calls are under way at once: each has a connection, and a member that gets hundreds of new ones at a time
# answers none of them soon.
AT_ONCE = 16
# How long a stream may be silent before it is made anew, in seconds.
SILENCE = 10.0


# It says a line for each request, which would be one for each heartbeat; who wants them sets the level himself.
if logging.getLogger("httpx2").level == logging.NOTSET:
    logging.getLogger("httpx2").setLevel(logging.WARNING)


class Refused(Exception):
    """The server refuses; `code` is gRPC's number for why."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(f"{text} (gRPC code {code})")
        self.code = code


class Silent(Exception):
    """A stream has said nothing for so long that it may be dead."""


class Gateway:
    """A connection to one cluster; it opens nothing before the first request."""

    def __init__(self, settings: EtcdSettings) -> None:
        self._settings = settings
        limits = httpx2.Limits(max_connections=None, max_keepalive_connections=AT_ONCE, keepalive_expiry=60)
        verify = settings.ssl_context() or False
        self._client = httpx2.AsyncClient(verify=verify, limits=limits, trust_env=False, timeout=settings.timeout)
        self._servers = random.sample(settings.servers, len(settings.servers))
        self._token = ""
        self._logging_in = asyncio.Lock()
        self._turn = asyncio.Semaphore(AT_ONCE)

    async def close(self) -> None:
        await self._client.aclose()

    async def call(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """What is answered.

        Raises:
            Unavailable: no member answers within `timeout`, or none knows a leader.
            Refused: the server refuses.
        """
        try:
            async with asyncio.timeout(self._settings.timeout), self._turn:
                return await self._call(path, body)
        except TimeoutError:
            raise self._away("no answer in time") from None

    async def watch(self, body: dict[str, Any]) -> AsyncGenerator[dict[str, Any], None]:
        """What the watch answers, until it is cut.

        Raises:
            Unavailable: it was cut, or no member answers.
            Refused: the server refuses, or ends it.
            Silent: nothing has come for a while.
        """
        await self._log_in()
        place, headers = self._place("watch"), self._headers()
        request = self._client.build_request("POST", place, json=body, headers=headers, timeout=None)
        response: httpx2.Response | None = None
        try:
            async with asyncio.timeout(self._settings.timeout):
                response = await self._client.send(request, stream=True)
                if response.status_code != 200:
                    raise self._refusal(json.loads(await response.aread()))
                lines = response.aiter_lines()
                first = await anext(lines)  # that it has begun
            yield self._answer(first)
            while True:
                yield self._answer(await self._heard(lines))
        except StopAsyncIteration:
            raise self._next(self._away("the watch has ended")) from None
        except (httpx2.HTTPError, httpx2.StreamError, RuntimeError, ValueError, TimeoutError) as error:
            raise self._next(error) from error
        finally:
            if response is not None:
                await response.aclose()

    def _answer(self, line: str) -> dict[str, Any]:
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise self._refusal(answer["error"])
        return answer.get("result", {})  # type: ignore[no-any-return]

    async def _heard(self, lines: AsyncIterator[str]) -> str:
        try:
            async with asyncio.timeout(SILENCE):
                return await anext(lines)
        except TimeoutError:
            raise Silent from None

    # -- within ------------------------------------------------------------------------------------------------

    async def _call(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        await self._log_in()
        for attempt in range(2):
            token = self._token
            try:
                return await self._post(path, body)
            except Refused as refused:
                if refused.code != NOT_LOGGED_IN or attempt or not self._settings.user:
                    raise
                await self._log_in(instead_of=token)
        raise AssertionError("the second attempt returns or raises")

    async def _post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """The answer of the first member that has one."""
        failed = self._away("no member answers")
        for _ in self._servers:
            try:
                response = await self._client.post(self._place(path), json=body, headers=self._headers())
                answer = json.loads(response.content)
            except (httpx2.HTTPError, RuntimeError, ValueError) as error:
                failed = self._next(error)
                continue
            if response.status_code == 200 and "error" not in answer:
                return answer  # type: ignore[no-any-return]
            refusal = self._refusal(answer.get("error") if isinstance(answer.get("error"), dict) else answer)
            if isinstance(refusal, Refused):
                raise refusal
            failed = self._next(refusal)
        raise failed

    async def _log_in(self, instead_of: str = "") -> None:
        if not self._settings.user or self._token != instead_of:
            return
        async with self._logging_in:
            if self._token != instead_of:
                return
            self._token = ""
            login = {"name": self._settings.user, "password": self._settings.password}
            try:
                self._token = (await self._post("auth/authenticate", login))["token"]
            except Refused as refused:
                if refused.code != NO_LOGIN_NEEDED:
                    raise UsageError(f"{self._settings.address} refuses this user or password: {refused}") from None

    def _headers(self) -> dict[str, str]:
        return {"Authorization": self._token} if self._token else {}

    def _place(self, path: str) -> str:
        return f"{'https' if self._settings.tls else 'http'}://{self._servers[0]}/v3/{path}"

    def _refusal(self, error: dict[str, Any]) -> Exception:
        """What a refusal means: Unavailable where the member may answer in a moment, or another one may."""
        code = int(error.get("code", error.get("grpc_code", 2)))
        text = str(error.get("message") or error.get("error") or "no reason given")
        return self._away(text) if code in (DEADLINE, AWAY) else Refused(code, text)

    def _next(self, error: Exception) -> Unavailable:
        """Go on with the next member."""
        self._servers.append(self._servers.pop(0))
        return error if isinstance(error, Unavailable) else self._away(str(error) or type(error).__name__)

    def _away(self, why: str) -> Unavailable:
        return Unavailable(f"{self._settings.address}: {why}", id=self._settings.address)


def encode(text: str | bytes) -> str:
    """A key or a value as it is written."""
    return b64encode(text.encode() if isinstance(text, str) else text).decode()


def decode(text: str) -> bytes:
    """A key or a value as it was."""
    return b64decode(text)


def end_of(prefix: str) -> str:
    """The first key behind all that begin so."""
    return prefix[:-1] + chr(ord(prefix[-1]) + 1)
