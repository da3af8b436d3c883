"""A user's function: how it is read, and how it is run."""
