"""Registration: one node in its registry, from the start of its service to its stop."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from contextlib import suppress

from eventmicro.discovery.checking import find_fault
from eventmicro.discovery.registering import Registering
from eventmicro.errors import EventMicroError, Unavailable, UsageError
from eventmicro.registry import Registry, ServiceRecord, TellsReturn

log = logging.getLogger(__name__)

# How long the first registering may take, and the deregistering, in seconds.
PATIENCE = 5.0
# The pauses between attempts while the registry is away, in seconds: twice as long each time, up to the interval.
FIRST_PAUSE = 0.5


# What is registered where a registry does not take the whole record, and what then is left out.
SLIMMER: tuple[Callable[[ServiceRecord], ServiceRecord], ...] = (
    lambda record: record,
    ServiceRecord.without_schemas,
    lambda record: record.model_copy(update={"endpoints": []}),
)
SLIMMED = ("nothing", "its schemas", "its endpoints")


class Registration:
    """Registers a node, again and again, while its check passes. A registry that is away stops nobody.

    Args:
        name: whom it registers, for the log.
        make_record: makes the record of the service, with this node alone; very large ones are not kept.
    """

    def __init__(
        self, registry: Registry, name: str, make_record: Callable[[], ServiceRecord], how: Registering
    ) -> None:
        self._registry = registry
        self._name = name
        self._make_record = make_record
        self._slimming = 0  # how much of the record is left out, as it is too large for this registry
        self._how = how
        self._failing: str | None = None
        self._away: str | None = None
        self._tries = 0
        self._beating: asyncio.Task[None] | None = None
        self._kept_until = 0.0  # when the registry forgets the node, in `time.monotonic()` seconds
        self._written = False  # whether the registry may have the node, also where it did not say so
        self._telling = asyncio.Lock()
        self._over = False  # nothing is registered any more
        self._fault = ""  # what the registry refuses, or its adapter does wrong, as far as the log has said it

    @property
    def registered(self) -> bool:
        """Whether the registry has the node, as far as is known: not when it was away for longer than it keeps it."""
        return time.monotonic() < self._kept_until

    @property
    def why(self) -> str:
        """Why it is not registered, as far as is known."""
        if self._failing is not None:
            return f"register_check: {self._failing}"
        if self._fault:
            return f"the registry does not take it: {self._fault}"
        return f"the registry is away: {self._away}" if self._away is not None else "it has not begun, or has ended"

    async def start(self) -> None:
        """Register; what fails now is tried again later, unless the registry is required.

        Raises:
            Unavailable: it is required, and cannot be reached.
            UsageError: it cannot hold the record.
        """
        try:
            async with asyncio.timeout(PATIENCE):
                await self._beat()
        except TimeoutError:
            self._say_away(f"it did not answer within {PATIENCE:g} s")
        if self._away is not None and self._how.required:
            raise Unavailable(f"registry {self._registry.url} is required: {self._away}", id=self._name)
        self._beating = asyncio.create_task(self._go_on())

    async def renew(self) -> None:
        """Register now, as the record has changed; what fails is tried again with the next heartbeat."""
        if self._beating is None:
            return
        try:
            async with asyncio.timeout(PATIENCE):
                await self._beat()
        except TimeoutError:
            self._say_away(f"it did not answer within {PATIENCE:g} s")
        except UsageError as error:
            log.warning("%s is registered as it was: %s", self._name, error)

    async def stop(self) -> None:
        """Deregister, at once and once; where the registry is away it forgets the node by itself."""
        beating, self._beating = self._beating, None
        self._over = True  # a renewal whose check takes long would come after the goodbye
        try:
            async with asyncio.timeout(PATIENCE), self._telling:  # as would a heartbeat on its way
                await self._leave()
        except (EventMicroError, TimeoutError) as error:
            log.warning(
                "%s could not be deregistered, and is forgotten within %g s: %s",
                self._name,
                self._how.lifetime,
                str(error) or f"it did not answer within {PATIENCE:g} s",
            )
        finally:
            self._kept_until = 0.0
            if beating is not None:
                beating.cancel()
                await asyncio.gather(beating, return_exceptions=True)

    async def _go_on(self) -> None:
        while True:
            await self._rest()
            try:
                async with asyncio.timeout(self._how.pause + PATIENCE):
                    await self._beat()
            except TimeoutError:
                self._say_away("it did not answer in time")
            except Exception as error:  # what it refuses may be permitted yet; an adapter's fault stops nobody either
                self._say_fault(error)

    async def _rest(self) -> None:
        """Wait for the time of the next heartbeat, or for a registry that is back and may have forgotten the node."""
        if not isinstance(self._registry, TellsReturn):
            await asyncio.sleep(self._pause)
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(self._pause):
                await self._registry.returned()

    @property
    def _pause(self) -> float:
        """The seconds until the next heartbeat, or until the next try while the registry is away."""
        if not self._tries:
            return self._how.pause
        return min(self._how.pause, FIRST_PAUSE * (1 << min(self._tries - 1, 10)))

    async def _beat(self) -> None:
        """One heartbeat: the check, and what follows from it."""
        failing = None if self._how.check is None else await find_fault(self._how.check)
        self._say_check(failing)
        try:
            await self._registry.connect()
            async with self._telling:
                if self._over:
                    return
                await (self._register() if failing is None else self._leave())
        except Unavailable as error:
            self._say_away(error.detail)
            return
        self._kept_until = 0.0 if failing is not None else time.monotonic() + self._how.lifetime
        self._say_back()

    async def _register(self) -> None:
        """Register the record, or as much of it as this registry takes: it is found in any case.

        Raises:
            UsageError: it takes none of it, which is then not about how large it is.
        """
        record, refused = self._make_record(), None
        for slimming in range(self._slimming, len(SLIMMER)):
            self._written = True
            try:
                await self._registry.register(SLIMMER[slimming](record), ttl=self._how.lifetime)
            except UsageError as error:
                refused = refused or error
                continue
            if refused is not None:
                log.warning("%s is registered without %s: %s", self._name, SLIMMED[slimming], refused)
            self._slimming = slimming
            return
        assert refused is not None
        raise refused

    async def _leave(self) -> None:
        if self._written:
            await self._registry.deregister(self._make_record())
            self._written = False

    # -- one line a change -------------------------------------------------------------------------------------

    def _say_check(self, failing: str | None) -> None:
        former, self._failing = self._failing, failing
        if failing is not None and former is None:
            log.warning("%s is not registered while its check fails: %s", self._name, failing)
        elif failing is None and former is not None:
            log.info("%s: its check passes again", self._name)

    def _say_away(self, why: str) -> None:
        if self._away is None:
            log.warning(
                "%s serves on, but registry %s cannot be reached, and is tried again: %s",
                self._name,
                self._registry.url,
                why,
            )
        self._away = why
        self._tries += 1

    def _say_fault(self, error: Exception) -> None:
        """Say it where it is another one than before: the next heartbeat most likely meets it again."""
        former, self._fault = self._fault, f"{type(error).__name__}: {error}"
        if self._fault != former:
            shown = None if isinstance(error, EventMicroError) else error
            said = "%s could not be registered, and it is tried again: %s"
            log.error(said, self._name, self._fault, exc_info=shown)

    def _say_back(self) -> None:
        if self._away is not None:
            log.info("%s: registry %s is back", self._name, self._registry.url)
        self._away, self._tries, self._fault = None, 0, ""
