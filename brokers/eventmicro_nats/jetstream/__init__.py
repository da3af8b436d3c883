"""JetStream: events that are kept, on top of the same connection."""
