"""Real servers for the tests: own folders, own ports on 127.0.0.1, ended with the test run."""

from tests.servers.consul import ConsulServer
from tests.servers.etcd import EtcdServer
from tests.servers.faults import FaultProxy
from tests.servers.kafka import KafkaServer
from tests.servers.nats import NatsServer
from tests.servers.process import ServerUnavailable
from tests.servers.rabbitmq import RabbitServer

__all__ = ["ConsulServer", "EtcdServer", "FaultProxy", "KafkaServer", "NatsServer", "RabbitServer", "ServerUnavailable"]
