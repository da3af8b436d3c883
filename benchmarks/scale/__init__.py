"""What very many cost, on one NATS server: endpoints, subscribers, topics, calls in flight, and messages in a row."""
