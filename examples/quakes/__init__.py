"""The demo: a week of earthquakes, three services, one live view. Start it with `python -m examples.quakes`."""
