"""Calls and events over core NATS: nothing is kept, nothing settled."""
