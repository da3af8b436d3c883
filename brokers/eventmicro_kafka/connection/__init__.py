"""Requests to a Kafka cluster, and the ending of what aiokafka has opened."""
