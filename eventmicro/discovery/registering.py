"""Registering: how a service is kept in its registry, as its code and its environment say it."""

from __future__ import annotations

from dataclasses import dataclass, replace

from eventmicro.checks import check_function, check_kind, check_seconds
from eventmicro.discovery.checking import CheckFunction
from eventmicro.errors import UsageError
from eventmicro.sources import find_said

TTL = 90.0
INTERVAL = 30.0
TTL_VARIABLE = "EVENTMICRO_REGISTER_TTL"
INTERVAL_VARIABLE = "EVENTMICRO_REGISTER_INTERVAL"


@dataclass(frozen=True, slots=True)
class Registering:
    """See `Service` for the words; None: nothing is said.

    Raises:
        UsageError: a time is none, or the interval is not shorter than the ttl.
    """

    ttl: float | None = None
    interval: float | None = None
    check: CheckFunction | None = None
    required: bool = False

    def __post_init__(self) -> None:
        if self.check is not None:
            check_function("register_check", self.check)
        check_kind("register_required", self.required, bool, "True or False")
        for name, seconds in (("register_ttl", self.ttl), ("register_interval", self.interval)):
            if seconds is not None:
                check_seconds(name, seconds)
        if self.interval is not None and self.interval >= self.lifetime:
            raise UsageError(
                f"register_interval={self.interval:g} is not shorter than register_ttl={self.lifetime:g}: the node "
                f"would be forgotten between two heartbeats; write a third of it"
            )

    def with_environment(self) -> Registering:
        """The same with what is said outside of the code where that says nothing.

        Raises:
            UsageError: that is no time, or does not fit the rest.
        """
        ttl = self.ttl if self.ttl is not None else _seconds("register_ttl")
        interval = self.interval if self.interval is not None else _seconds("register_interval")
        return replace(self, ttl=ttl, interval=interval)

    @property
    def lifetime(self) -> float:
        """How long the registry keeps the node where it hears nothing of it, in seconds."""
        return TTL if self.ttl is None else self.ttl

    @property
    def pause(self) -> float:
        """The seconds between two heartbeats."""
        return min(INTERVAL, self.lifetime / 3) if self.interval is None else self.interval


def _seconds(setting: str) -> float | None:
    said = find_said(setting)
    if said is None:
        return None
    try:
        return float(said.read())
    except (TypeError, ValueError):
        raise UsageError(f"{said.where}={said.shown}: write seconds") from None
