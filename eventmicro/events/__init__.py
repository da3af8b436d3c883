"""Events: how they are published, handled and settled."""
