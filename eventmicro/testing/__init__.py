"""For tests of your own services: several of them in one world, on one broker, with faults and time under control.

`world` is what a test holds: `seen` what it may ask, `faults` what it may have go wrong, `clock` its time. `wire` and
`watching` are around its brokers and its handlers. See docs/testing.md.
"""

from __future__ import annotations

from eventmicro.testing.busy import StillBusy
from eventmicro.testing.faults import Fault, NeverApplied
from eventmicro.testing.records import Called, Dead, Handled, Published
from eventmicro.testing.world import World

__all__ = ["Called", "Dead", "Fault", "Handled", "NeverApplied", "Published", "StillBusy", "World"]
