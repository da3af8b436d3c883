"""Schema registry: bodies in the framing of Confluent's, in Avro, JSON and protobuf, as codecs of topics."""

from eventmicro_kafka.schema_registry.registry import SchemaRegistry

__all__ = ["SchemaRegistry"]
