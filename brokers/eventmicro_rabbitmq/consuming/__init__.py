"""What is taken from RabbitMQ's queues, and how it is settled."""
