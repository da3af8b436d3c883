"""Tokens: what OAUTHBEARER shows to the brokers, from a function of the user's, or by client credentials."""

from __future__ import annotations

import asyncio
import json
import time
from base64 import b64encode
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import quote, urlencode
from urllib.request import Request
from weakref import WeakKeyDictionary

from aiokafka.abc import AbstractTokenProvider  # type: ignore[import-untyped]

from eventmicro_kafka.connection.asking import open_url
from eventmicro_kafka.errors import NoToken
from eventmicro_kafka.settings import KafkaSettings

_Provider: Any = AbstractTokenProvider  # its types say that it gives nothing

# Of the time that a token is valid, for which part it is used.
USED_FOR = 0.8
# For how long one is used that does not say how long it is valid, in seconds.
UNSAID = 60.0
# How large an answer may be, in bytes.
LONGEST = 1_000_000


class Given(_Provider):  # type: ignore[misc]
    """Tokens from a function of the user's."""

    def __init__(self, settings: KafkaSettings) -> None:
        self._settings = settings

    async def token(self) -> str:
        assert self._settings.token is not None
        async with asyncio.timeout(self._settings.request_timeout):
            token = await self._settings.token()
        if not isinstance(token, str) or not token:
            raise NoToken(f"the function of token= gave {type(token).__name__}, which is no token")
        return token


class ByCredentials(_Provider):  # type: ignore[misc]
    """Tokens that a server gives for a client's id and secret; all connections share one while it is valid."""

    def __init__(self, settings: KafkaSettings) -> None:
        self._settings = settings
        self._token = ""
        self._until = 0.0
        self._asking = asyncio.Lock()

    async def token(self) -> str:
        async with self._asking:
            if time.monotonic() >= self._until:
                async with asyncio.timeout(self._settings.request_timeout):
                    self._token, valid = await asyncio.to_thread(_ask, self._settings)
                self._until = time.monotonic() + valid
            return self._token


_shared: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[KafkaSettings, ByCredentials]] = WeakKeyDictionary()


def tokens_of(settings: KafkaSettings) -> Any:
    """Where a connection gets its tokens."""
    if settings.token is not None:
        return Given(settings)
    here = _shared.setdefault(asyncio.get_running_loop(), {})
    return here.setdefault(settings, ByCredentials(settings))


def _ask(settings: KafkaSettings) -> tuple[str, float]:
    """A new token, and for how many seconds it is to be used.

    Raises:
        NoToken: the server gives none; it says why, without what it was asked with.
        OSError: it does not answer.
    """
    url = settings.token_url or ""
    scope = {} if settings.token_scope is None else {"scope": settings.token_scope}
    body = urlencode({"grant_type": "client_credentials", **scope}).encode()
    login = f"{quote(settings.user or '', safe='')}:{quote(settings.password or '', safe='')}"
    headers = {"Authorization": "Basic " + b64encode(login.encode()).decode(), "Accept": "application/json"}
    try:
        with open_url(Request(url, body, headers), timeout=settings.request_timeout) as answer:  # noqa: S310  checked
            return _read(json.loads(answer.read(LONGEST)), url)
    except HTTPError as error:
        error.close()
        raise NoToken(f"{url} gives no token: {error.code} {error.reason}") from None
    except URLError as error:
        raise ConnectionError(f"{url}: {error.reason}") from error
    except ValueError as error:
        raise NoToken(f"{url} answers with no JSON") from error


def _read(answer: Any, url: str) -> tuple[str, float]:
    token = answer.get("access_token") if isinstance(answer, dict) else None
    if not isinstance(token, str) or not token:
        raise NoToken(f"{url} answers without an access_token")
    try:
        return token, USED_FOR * float(answer["expires_in"])
    except (KeyError, TypeError, ValueError):
        return token, UNSAID
