"""Sparing: nats-py without its client of JetStream, which takes as long to load as all the rest of it.

nats-py imports `nats.js` for those who ask it for that client. Ours is in `jetstream/`, so that here it is only loaded
where somebody looks into it.
"""

from __future__ import annotations

import sys
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import LazyLoader
from typing import Any

SPARED = "nats.js"


class _Later(MetaPathFinder):
    """Has one module be loaded at the first look into it."""

    def find_spec(self, name: str, path: Any, target: Any = None) -> ModuleSpec | None:
        spec = PathFinder.find_spec(name, path) if name == SPARED else None
        if spec is not None and spec.loader is not None:
            spec.loader = LazyLoader(spec.loader)
        return spec


_later = _Later()
sys.meta_path.insert(0, _later)
try:
    import nats  # noqa: F401
finally:
    sys.meta_path.remove(_later)
