"""Follower: what lives on a broker's connection beside its subscriptions, and is told what becomes of it."""

from __future__ import annotations

from typing import Protocol

from eventmicro_nats.connection.driver import Driver


class Follower(Protocol):
    """Told of one broker's connection, from `NatsBroker.follow` on, until the broker is closed."""

    async def open(self, driver: Driver) -> None:
        """It was made anew, as another one."""

    def lost(self) -> None: ...

    def back(self) -> None:
        """It stands again; what was subscribed on it is so again."""

    def refused(self, text: str) -> bool:
        """The server has refused something, in its own words; whether it was something of this one."""
        ...

    def end(self) -> None:
        """It is closed."""
