"""eventmicro with etcd: a registry, over the JSON gateway of etcd 3.4 and later."""

from eventmicro_etcd.registry import EtcdRegistry
from eventmicro_etcd.settings import EtcdSettings

__all__ = ["EtcdRegistry", "EtcdSettings"]
