"""eventmicro over RabbitMQ, by aiormq, the protocol layer of aio-pika."""

from eventmicro_rabbitmq.broker import RabbitBroker
from eventmicro_rabbitmq.masstransit import MassTransit, MassTransitMessage
from eventmicro_rabbitmq.message import RabbitMessage
from eventmicro_rabbitmq.places import RabbitBinding, RabbitExchange, RabbitQueue
from eventmicro_rabbitmq.said import RabbitProperties
from eventmicro_rabbitmq.settings import RabbitSettings

__all__ = [
    "MassTransit",
    "MassTransitMessage",
    "RabbitBinding",
    "RabbitBroker",
    "RabbitExchange",
    "RabbitMessage",
    "RabbitProperties",
    "RabbitQueue",
    "RabbitSettings",
]
