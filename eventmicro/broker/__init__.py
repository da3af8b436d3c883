"""The broker port: what an adapter promises, and all that the rest of eventmicro knows of a broker.

These comments are the specification; `eventmicro.conformance` holds every adapter to it, and docs/architecture.md
says how each promise maps to core NATS, JetStream, AMQP and Kafka.

Subjects are tokens with dots between. A subscription may hold wildcards: `*` stands for one token, a last `>` for one
or more. An adapter turns the subjects into its broker's own form and back.

The port is in `port`, what is promised and asked in `promises`, what an adapter may have beside it in `optional`.
"""

from eventmicro.broker.optional import (
    Bindings,
    ChecksNames,
    CountsReconnects,
    DeclaresCalls,
    DeclaresQueues,
    HasPlaces,
    LabelsEvents,
    PublishesAndAcks,
    QueueState,
    ReadsKept,
    SendsAtOnce,
    StoresObjects,
    StoresRequests,
    TellsBindings,
    TellsQueues,
    TellsUnreached,
    sends_at_once,
)
from eventmicro.broker.port import PUBLISH_TIMEOUT, Broker, Receive, ReceivesMany, Subscription
from eventmicro.broker.promises import PREFETCH, Capabilities, Durable, Start

__all__ = [
    "PREFETCH",
    "PUBLISH_TIMEOUT",
    "Bindings",
    "Broker",
    "Capabilities",
    "ChecksNames",
    "CountsReconnects",
    "DeclaresCalls",
    "DeclaresQueues",
    "Durable",
    "HasPlaces",
    "LabelsEvents",
    "PublishesAndAcks",
    "QueueState",
    "ReadsKept",
    "Receive",
    "ReceivesMany",
    "SendsAtOnce",
    "Start",
    "StoresObjects",
    "StoresRequests",
    "Subscription",
    "TellsBindings",
    "TellsQueues",
    "TellsUnreached",
    "sends_at_once",
]
