"""The connection to a NATS server: nats-py's, with a shorter way in."""
