"""The client for code that is not async: scripts, Django, Flask, workers with threads."""
