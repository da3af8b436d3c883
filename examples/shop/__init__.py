"""A shop of five services over two brokers, whose books have to balance whatever is killed meanwhile."""
