"""One process: the start and the stop of its services, and what it says meanwhile."""
