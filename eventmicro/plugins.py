"""Adapters, found by entry point and loaded only when asked for; ours in the same way as anybody's.

An adapter's package names itself in the entry-point group `eventmicro.brokers`, under the URL scheme that it serves:

    [project.entry-points."eventmicro.brokers"]
    pulsar = "acme_eventmicro_pulsar:PulsarBroker"

What is named is called with the URL and returns a Broker. Registries are named likewise in `eventmicro.registries`, and
codecs in `eventmicro.codecs`, under their content type.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from eventmicro.broker import Broker, Capabilities
from eventmicro.errors import AdapterNotFound, BrokerNotFound, UsageError

if TYPE_CHECKING:  # the records of a registry are pydantic's, which takes longer to import than all the rest
    from importlib.metadata import EntryPoint, EntryPoints

    from eventmicro.registry import Registry

BROKERS = "eventmicro.brokers"
BROKER_VARIABLE = "EVENTMICRO_BROKER"
RPC_BROKER_VARIABLE = "EVENTMICRO_RPC_BROKER"
REGISTRIES = "eventmicro.registries"
CODECS = "eventmicro.codecs"
REGISTRY_VARIABLE = "EVENTMICRO_REGISTRY"
NO_REGISTRY = "none"
# What brokers are called that serve another scheme.
ALSO = {"rabbitmq": "amqp", "rabbit": "amqp", "nats+js": "jetstream", "js": "jetstream"}
NO_BROKER = (
    f"no broker is set: pass a URL such as 'nats://127.0.0.1:4222' or 'memory://', set {BROKER_VARIABLE}, "
    f"or start an embedded one by `eventmicro run`"
)


def check_broker(name: str, broker: Any) -> None:
    """Refuse what is neither a URL that an adapter serves, nor a Broker, nor None. No adapter is loaded for that.

    Args:
        name: the option whose value it is.

    Raises:
        UsageError: it is something else.
        BrokerNotFound: no adapter serves the URL's scheme.
    """
    methods = ("connect", "publish", "subscribe", "close")
    is_broker = not isinstance(broker, type) and all(hasattr(broker, method) for method in methods)
    if not (is_broker or isinstance(broker, str | None)):
        raise UsageError(f"{name}={broker!r}: write a URL such as 'nats://127.0.0.1:4222', or a Broker")
    if isinstance(broker, str) and broker and (scheme := _scheme(broker)) not in known(BROKERS):
        raise BrokerNotFound(_not_installed(BROKERS, scheme, "broker"))


def open_broker(broker: str | Broker | None) -> Broker:
    """The broker for a URL, not yet connected; a Broker is returned as it is.

    Raises:
        BrokerNotFound: no adapter serves the URL's scheme, or the adapter's driver is not installed.
        UsageError: no URL was given at all.
    """
    if not broker:
        raise UsageError(NO_BROKER)
    if not isinstance(broker, str):
        return broker
    factory: Callable[[str], Broker] = load(BROKERS, _scheme(broker), "broker")
    return factory(broker)


def unconnected_broker(broker: str | Broker | None) -> Broker:
    """The same, to be asked what it can and never connected: of a URL the scheme is enough, `kafka://`.

    Raises:
        BrokerNotFound, UsageError: as `open_broker`.
    """
    if not isinstance(broker, str) or not broker.endswith("://"):
        return open_broker(broker)
    factory: Callable[[], Broker] = load(BROKERS, _scheme(broker), "broker")
    try:
        return factory()
    except TypeError:  # it has no URL of its own
        return open_broker(broker)


def check_registry(name: str, registry: Any) -> None:
    """Refuse what is neither a URL nor a name of a registry, nor a Registry, nor None. No adapter is loaded for that.

    Args:
        name: the option whose value it is.

    Raises:
        UsageError: it is something else.
        AdapterNotFound: no adapter has this name, or serves the URL's scheme.
    """
    is_registry = not isinstance(registry, type) and all(hasattr(registry, m) for m in ("register", "watch"))
    if not (is_registry or isinstance(registry, str | None)):
        raise UsageError(f"{name}={registry!r}: write a name or a URL such as 'etcd://127.0.0.1:2379', or a Registry")
    if isinstance(registry, str) and registry not in ("", NO_REGISTRY):
        kind = registry.partition("://")[0]
        if kind not in known(REGISTRIES):
            raise AdapterNotFound(_not_installed(REGISTRIES, kind, "registry"))


def open_registry(registry: str | Registry | None, *brokers: Broker) -> Registry | None:
    """The registry for a URL or a name, not yet connected; a Registry is returned as it is.

    Args:
        registry: None: that of the first broker which can keep one; `none`: there is to be none. A name alone, such as
            `etcd`, stands for the adapter's default URL, or for that of a broker of this kind.

    Raises:
        AdapterNotFound: no adapter has this name, or its driver is not installed.
    """
    if registry == NO_REGISTRY:
        return None
    if not registry:
        return next(_kept_by(brokers), None)
    if not isinstance(registry, str):
        return registry
    kind, separator, _ = registry.partition("://")
    factory: Callable[[str], Registry] = load(REGISTRIES, kind, "registry")
    if separator:
        return factory(registry)
    return next((own for own in _kept_by(brokers) if type(own) is factory), None) or factory(f"{kind}://")


def _kept_by(brokers: tuple[Broker, ...]) -> Iterator[Registry]:
    """The registries that the servers of these brokers can keep."""
    for broker in brokers:
        if (make := getattr(broker, "registry", None)) is not None:
            yield make()


def _scheme(url: str) -> str:
    scheme, separator, _ = url.partition("://")
    if not separator:
        raise UsageError(f"broker {url!r} is no URL: write 'nats://127.0.0.1:4222' or 'memory://'")
    return scheme


def known(group: str) -> Mapping[str, EntryPoint]:
    """What is installed in an entry-point group, by name, in the order of names: no two machines list them alike."""
    from importlib.metadata import entry_points  # it takes longer to import than most programs need it

    return _found(group, entry_points, tuple(sys.path))


@lru_cache(maxsize=16)
def _found(group: str, look: Callable[..., EntryPoints], path: tuple[str, ...]) -> Mapping[str, EntryPoint]:
    """The same as it was when the path was first such: it takes milliseconds to look through all that is installed."""
    return dict(sorted((point.name, point) for point in look(group=group)))


def load(group: str, name: str, what: str) -> Any:
    """Load what an entry point names.

    Raises:
        AdapterNotFound: nothing of this name is installed, or a package that it needs is missing; for a broker it is
            BrokerNotFound.
    """
    points = known(group)
    missing = AdapterNotFound if group in (REGISTRIES, CODECS) else BrokerNotFound
    if name not in points:
        raise missing(_not_installed(group, name, what))
    point = points[name]
    try:
        return point.load()
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] == point.module.partition(".")[0]:
            raise
        package = point.dist.name if point.dist is not None else name
        extra = f"{package}[{_extra(point)}]"
        raise missing(f"{what} {name!r} needs {error.name}: pip install '{extra}'") from error


def _not_installed(group: str, name: str, what: str) -> str:
    """That there is nothing of this name, and what may be meant: a name like it, or else any that can be used here."""
    from difflib import get_close_matches  # for errors only

    points = sorted(known(group))
    if (also := ALSO.get(name.lower())) in points:
        return f"no {what} {name!r} is installed; did you mean {also!r}?"
    if close := get_close_matches(name.lower(), points, n=1):
        return f"no {what} {name!r} is installed; did you mean {close[0]!r}?"
    lacking = [point for point in points if _lacks_driver(group, point, what)]
    usable = ", ".join(point for point in points if point not in lacking)
    rest = f"; without their drivers: {', '.join(lacking)}" if lacking else ""
    return f"no {what} {name!r} is installed; installed: {usable or 'none'}{rest}"


def _lacks_driver(group: str, name: str, what: str) -> bool:
    try:
        load(group, name, what)
    except AdapterNotFound:
        return True
    except (ImportError, AttributeError):  # it is broken otherwise, which shows where it is used
        return False
    return False


def brokers_with(needed: Capabilities) -> list[str]:
    """The URL schemes of the installed adapters that can do this."""
    return [f"{scheme}://" for scheme, capabilities in installed_brokers().items() if not capabilities.missing(needed)]


def installed_brokers() -> dict[str, Capabilities]:
    """What each adapter can do whose driver is installed, by URL scheme."""
    found = {scheme: getattr(adapter, "capabilities", None) for scheme, adapter in _load_all()}
    # A factory, or a property, says nothing before it has a URL; what could not be loaded says nothing at all.
    return {scheme: can for scheme, can in found.items() if isinstance(can, Capabilities)}


def unusable_brokers() -> dict[str, str]:
    """Why adapters cannot be loaded, each by its first URL scheme: mostly for want of a driver, which is named."""
    adapters = {point.value: scheme for scheme, point in sorted(known(BROKERS).items(), reverse=True)}
    return {
        scheme: str(error)
        for scheme, error in _load_all()
        if isinstance(error, Exception) and scheme in adapters.values()
    }


def _load_all() -> Iterator[tuple[str, Any]]:
    """Each adapter's scheme, and the adapter or why it cannot be loaded."""
    for scheme in sorted(known(BROKERS)):
        try:
            yield scheme, load(BROKERS, scheme, "broker")
        except (BrokerNotFound, ImportError, AttributeError) as error:
            yield scheme, error


def _extra(point: EntryPoint) -> str:
    """The extra that brings an adapter's driver: by custom the last word of the adapter's package."""
    return point.module.partition(".")[0].rpartition("_")[2]
