"""Health: whether a node lives, and whether it is ready for work, by named checks that run together."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from typing import Literal

from pydantic import BaseModel, Field

from eventmicro.discovery.checking import HealthCheck, find_fault


class CheckResult(BaseModel):
    """What one check has found."""

    name: str
    ok: bool
    critical: bool = True
    """Whether the node is not ready where it fails."""
    detail: str = ""
    """What is wrong."""
    seconds: float = 0.0
    """How long it took."""


class Health(BaseModel):
    """The health of one node, as `service.health` answers it, and the health port."""

    status: Literal["ok", "degraded", "failing"]
    """`degraded`: only checks fail that are not critical."""
    live: bool
    """Whether it works at all; where not, a new start helps."""
    ready: bool
    """Whether it can do its work now: all critical checks pass."""
    service: str
    version: str
    node: str
    uptime: float
    """Since its start, in seconds."""
    checks: list[CheckResult] = Field(default_factory=list)


class HealthChecks:
    """The checks of one node.

    Args:
        service, version, node: whose they are.
        checks: all of them.
    """

    def __init__(self, service: str, version: str, node: str, checks: Iterable[HealthCheck]) -> None:
        self._who = (service, version, node)
        self._checks = tuple(checks)
        self._started = time.monotonic()

    async def run(self) -> Health:
        """Run all checks, together, each within `CHECK_TIMEOUT`."""
        results = await asyncio.gather(*(_run(check) for check in self._checks))
        ready = all(result.ok for result in results if result.critical)
        live = all(result.ok for result, check in zip(results, self._checks, strict=True) if check.vital)
        service, version, node = self._who
        return Health(
            status="failing" if not (ready and live) else "ok" if all(r.ok for r in results) else "degraded",
            live=live,
            ready=ready and live,
            service=service,
            version=version,
            node=node,
            uptime=time.monotonic() - self._started,
            checks=list(results),
        )


async def _run(check: HealthCheck) -> CheckResult:
    started = time.monotonic()
    detail = await find_fault(check.function)
    seconds = time.monotonic() - started
    return CheckResult(
        name=check.name, ok=detail is None, critical=check.critical, detail=detail or "", seconds=seconds
    )
