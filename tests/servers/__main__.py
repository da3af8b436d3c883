"""`python -m tests.servers` fetches what the Kafka server needs, and makes its class archive."""

from __future__ import annotations

import sys

from tests.servers.kafka import make_archive
from tests.servers.kafka_jars import VERSION, cache, java
from tests.servers.process import ServerUnavailable

try:
    make_archive()
except ServerUnavailable as error:
    sys.exit(str(error))
print(f"Apache Kafka {VERSION} is ready to start, with {java()} from {cache()}")
