"""Calls: who listens for them and who sends them, with direct replies; nothing of it is kept."""
