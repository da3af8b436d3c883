"""Durable events on Kafka."""
