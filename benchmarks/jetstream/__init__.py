"""Durable events on JetStream."""
