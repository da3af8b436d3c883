"""How fast eventmicro is, beside hand-written nats-py and FastStream in one run: `python -m benchmarks`."""
