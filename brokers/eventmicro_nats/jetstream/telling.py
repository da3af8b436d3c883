"""What is said of streams: how they lose what they confirm, when that begins and ends, and what they take no more."""

from __future__ import annotations

import logging
from typing import Any

from eventmicro.errors import UsageError
from eventmicro_nats.jetstream.keeping import check_own, fills_up, is_ours, losses
from eventmicro_nats.settings import JetStreamSettings

log = logging.getLogger(__name__)

# The servers and names of streams of which this process knows whether they are bounded: each service has a connection.
_looked_at: set[tuple[tuple[str, ...], str]] = set()


class Telling:
    """Says each thing of the streams of one connection once; that one keeps all for ever, who makes it."""

    def __init__(self, settings: JetStreamSettings) -> None:
        self._settings = settings
        self._losses: dict[str, str] = {}  # what was said of each stream, last
        self._bounds: set[str] = set()  # those of which it was looked at
        self._missing: dict[str, str] = {}  # why nothing takes a subject

    def losses(self, config: dict[str, Any], forgets: str) -> None:
        """Say of a stream that begins to be used what it does not keep."""
        if forgets and config["name"] not in self._losses:
            log.warning("stream %s does not keep all that is confirmed: %s", config["name"], forgets)
        self._losses[config["name"]] = forgets
        self._bounded(config["name"], fills_up(config))

    def _bounded(self, name: str, bounds: str) -> None:
        """Say that a stream takes nothing more when it is full."""
        if bounds and name not in self._bounds:
            log.info("stream %s takes no more than %s, with discard=new: what is over is NotStored", name, bounds)
        self._bounds.add(name)

    def unbounded(self, config: dict[str, Any]) -> None:
        """Say that our stream, which was just made, keeps all for ever, where nobody has bounded it."""
        name = config["name"]
        looked_at = (self._settings.servers, name)
        if looked_at not in _looked_at and not config.get("max_age") and config.get("max_bytes", -1) <= 0:
            how = "by `eventmicro declare --change`" if is_ours(config) else f"by `nats stream edit {name}`"
            log.info(
                "stream %s keeps all events for ever, and takes none when the disk is full: bound it by max_age= or "
                "max_bytes= in the URL, and one that is there %s",
                name,
                how,
            )
        _looked_at.add(looked_at)

    def changes(self, config: dict[str, Any], *, is_filled: bool) -> None:
        """Say when a stream begins to drop what it confirms, and when it ends.

        Args:
            is_filled: others fill it, and nobody publishes to it from here.
        """
        name, before = config["name"], self._losses.get(config["name"], "")
        try:
            if name == self._settings.stream and not is_filled:
                check_own(config, self._settings)
            now = "" if name == self._settings.stream else losses(config, self._settings)
        except UsageError as error:
            now = str(error)
        self._losses[name] = now
        if now and now != before:
            log.error("stream %s was changed, and does not keep all that is confirmed: %s", name, now)
        elif before and not now:
            log.warning("stream %s was changed, and keeps what is confirmed again", name)

    def taken_out(self, subject: str, stream: str) -> None:
        """Say that a stream takes a subject no more."""
        if subject not in self._missing:
            log.warning(
                "stream %s takes %s no more, as somebody has changed it", stream, subject, extra={"subject": subject}
            )

    def missing(self, subject: str, why: str) -> None:
        """Say why no stream takes a subject again."""
        if self._missing.get(subject) != why:
            log.error("%s is kept by no stream: %s", subject, why, extra={"subject": subject})
        self._missing[subject] = why

    def there_again(self, subject: str) -> None:
        """Say that one does, where it was said that none does."""
        if self._missing.pop(subject, ""):
            log.warning("%s is kept by a stream again", subject, extra={"subject": subject})
