"""A mixed fleet: eventmicro and other frameworks publish and consume one subject, and are killed meanwhile.

`make fleet` runs it at length, `tests/integration/test_mixed_fleet.py` for a moment.
"""
