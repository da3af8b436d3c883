"""What is taken from Kafka's partitions, and where each queue stands."""
