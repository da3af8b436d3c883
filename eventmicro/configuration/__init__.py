"""Settings from outside of the code: which there are, how they are read, and what becomes of them in what order."""
