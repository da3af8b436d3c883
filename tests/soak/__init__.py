"""`make soak`: clusters of three nodes under faults, all events counted. No part of the tests: it takes minutes."""
