"""Registries that need no server: one that is written down. That of a process is with its broker, in `memory/`."""

from eventmicro.registries.static import StaticRegistry

__all__ = ["StaticRegistry"]
