"""How fast eventmicro is, beside hand-written clients and FastStream in one run: `python -m benchmarks`."""
