"""The connection to RabbitMQ: aiormq's, with a shorter way in and out, re-made when it is lost."""
