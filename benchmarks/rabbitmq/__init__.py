"""Durable events on RabbitMQ."""
