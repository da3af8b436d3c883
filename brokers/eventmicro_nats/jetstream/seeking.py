"""Seeking the stream that holds a subject to which none listens: one that is filled from others, or renames."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from eventmicro.errors import UsageError
from eventmicro_nats.jetstream.api import Api, ApiError, NotAllowed
from eventmicro_nats.jetstream.filled import held, is_filled, may_match

log = logging.getLogger(__name__)


class Seeking:
    """Looks at all streams of an account.

    Args:
        own: the stream of the setting `stream`: what it may hold as well as others is looked for there.
    """

    def __init__(self, api: Api, own: str) -> None:
        self._api = api
        self._own = own
        self._told: set[str] = set()

    async def find(self, subject: str, deadline: float) -> dict[str, Any] | None:
        """How the stream is made that holds it; None where none does, as far as can be seen.

        Args:
            subject: what a queue is to get; it may have wildcards.

        Raises:
            UsageError: several do.
        """
        streams = await self._all(deadline)
        found = [name for name, config in streams.items() if await self._holds(config, streams, subject, deadline)]
        if self._own in found:
            return streams[self._own]
        if len(found) > 1:
            raise UsageError(f"{subject} is in several streams ({', '.join(sorted(found))}): name the one by stream=")
        return streams[found[0]] if found else None

    async def _all(self, deadline: float) -> dict[str, dict[str, Any]]:
        """All streams by name; our own alone where this user may not see the others."""
        found = dict[str, dict[str, Any]]()
        try:
            while True:
                answer = await self._api.call("STREAM.LIST", {"offset": len(found)}, deadline=deadline)
                page = answer.get("streams") or []
                found |= {stream["config"]["name"]: stream["config"] for stream in page}
                if not page or len(found) >= answer["total"]:
                    return found
        except NotAllowed:
            try:
                return {self._own: (await self._api.call(f"STREAM.INFO.{self._own}", deadline=deadline))["config"]}
            except (ApiError, NotAllowed):
                return {}

    async def _holds(
        self, config: dict[str, Any], streams: Mapping[str, dict[str, Any]], subject: str, deadline: float
    ) -> bool:
        if not is_filled(config):
            return False
        may_hold = held(config, streams)
        if may_hold is not None:
            return may_match(subject, may_hold)
        if await self._has(config["name"], subject, deadline) or config["name"] == self._own:
            return True
        self._say_unknown(config["name"], subject)
        return False

    async def _has(self, stream: str, subject: str, deadline: float) -> bool:
        """Whether it has an event of this subject now."""
        try:
            info = await self._api.call(f"STREAM.INFO.{stream}", {"subjects_filter": subject}, deadline=deadline)
        except (ApiError, NotAllowed):
            return False
        state: Mapping[str, Any] = info["state"]
        return bool(state.get("subjects"))

    def _say_unknown(self, stream: str, subject: str) -> None:
        if stream not in self._told:
            self._told.add(stream)
            log.warning(
                "stream %s is filled with what cannot be seen from here, and has nothing of %s now: if that is to come "
                "from there, set stream=%s",
                stream,
                subject,
                stream,
                extra={"subject": subject},
            )
