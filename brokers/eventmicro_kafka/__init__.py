"""eventmicro over Apache Kafka, by aiokafka."""

from eventmicro_kafka.broker import KafkaBroker
from eventmicro_kafka.received import KafkaRecord
from eventmicro_kafka.settings import KafkaSettings

__all__ = ["KafkaBroker", "KafkaRecord", "KafkaSettings"]
