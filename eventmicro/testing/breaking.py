"""GoesWrong: by what a test says to its world what is to go wrong in it."""

from __future__ import annotations

from eventmicro.testing.faults import Fault, Faults, NeverApplied, Where
from eventmicro.testing.names import Names, What


class GoesWrong:
    """A base for what has faults: a World."""

    _faults: Faults
    _names: Names

    def _check_not_over(self) -> None:
        """Refuse what would have no effect any more."""
        raise NotImplementedError

    def fail(
        self,
        what: What,
        error: Exception | type[Exception],
        *,
        times: int | None = None,
        where: Where | None = None,
    ) -> Fault:
        """Let a handler raise in place of handling, or let it be impossible to publish events.

            world.fail("stock.reserve", Unavailable("no stock today"), times=2)     # the endpoint answers 503 twice
            with world.fail(PLACED, Disconnected("away")): ...                      # nobody can publish it meanwhile

        It ends with its block, or the world, or after so many times. One that nothing has met is an error then.

        Args:
            what: a handler by its name, or a topic or subject whose publishing fails; a pattern means both of calls
                and events.
            error: what is raised.
            times: how often; default: each time.
            where: which messages: a function of the event or the request.

        Raises:
            UsageError: there is nothing of this name here.
        """
        self._check_not_over()
        return self._faults.fail(self._names.find(what), error, times, where)

    def delay(self, what: What, seconds: float, *, times: int | None = None, where: Where | None = None) -> Fault:
        """Let messages be on their way for so many seconds longer; others overtake them. See `fail`.

        Args:
            what: a topic, a subject, a pattern of such, or an endpoint: its requests.
        """
        self._check_not_over()
        return self._faults.delay(self._names.find(what), seconds, times, where)

    def drop(self, what: What, *, times: int | None = None, where: Where | None = None) -> Fault:
        """Lose messages on their way, which who has sent them does not learn. See `fail` and `delay`."""
        self._check_not_over()
        return self._faults.drop(self._names.find(what), times, where)

    def duplicate(self, what: What, *, times: int | None = None, where: Where | None = None) -> Fault:
        """Send messages twice, as after a confirmation that was lost. See `fail` and `delay`."""
        self._check_not_over()
        return self._faults.duplicate(self._names.find(what), times, where)

    def _check_all_applied(self, left: list[Fault]) -> None:
        never = [fault for fault in left if not fault.applied]
        if len(never) > 1:
            raise NeverApplied(f"{', '.join(map(repr, never))} were never applied: they met nothing that was sent")
        for fault in never:
            fault.check_applied()
