"""eventmicro over RabbitMQ, by aiormq, the protocol layer of aio-pika."""

from eventmicro_rabbitmq.broker import RabbitBroker
from eventmicro_rabbitmq.message import RabbitMessage
from eventmicro_rabbitmq.settings import RabbitSettings

__all__ = ["RabbitBroker", "RabbitMessage", "RabbitSettings"]
