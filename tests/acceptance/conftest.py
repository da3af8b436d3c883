from tests.servers import nats_url

__all__ = ["nats_url"]
