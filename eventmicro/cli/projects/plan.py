"""What a project is to be, and all that its templates are told."""

from __future__ import annotations

import keyword
import re
import sys
import unicodedata
from collections.abc import Mapping
from enum import StrEnum
from typing import Any

from eventmicro.errors import UsageError

_NAME = re.compile(r"[a-z][a-z0-9_]*")
# What a project's package would hide, or be hidden by.
TAKEN = {"eventmicro", "tests", "test", "deploy", "build", "dist", "src"}
# How long a name may be: it stands in lines of code, and in names of containers.
LONGEST = 40
# The oldest release whose words the templates use, up to the next that may change them: docs/stability.md.
SINCE = ">=0.1,<0.2"


class Kind(StrEnum):
    srv = "srv"
    fnc = "fnc"
    api = "api"
    web = "web"


class BrokerKind(StrEnum):
    nats = "nats"
    rabbitmq = "rabbitmq"
    kafka = "kafka"
    memory = "memory"


ABOUT = {
    Kind.srv: "A service with endpoints and subscribers",
    Kind.fnc: "A function as a service",
    Kind.api: "JSON over HTTP in front of services",
    Kind.web: "A page about services",
}
# The object that is run, and the endpoint that its README calls.
TARGETS = {Kind.srv: ("service:service", "greet"), Kind.fnc: ("function:service", "handle")}
# Where the broker is for a program on this machine, and for one in a container beside it.
URLS = {
    BrokerKind.nats: ("jetstream://127.0.0.1:4222", "jetstream://nats:4222"),
    BrokerKind.rabbitmq: ("amqp://guest:guest@127.0.0.1:5672/", "amqp://guest:guest@rabbitmq:5672/"),
    BrokerKind.kafka: ("kafka://127.0.0.1:9092", "kafka://kafka:29092"),
    BrokerKind.memory: ("memory://", "memory://"),
}
# The folders in which code may be that is imported from there.
SOURCES = ("src/",)
# Kafka carries no calls.
RPC_URLS = {BrokerKind.kafka: ("nats://127.0.0.1:4222", "nats://nats:4222")}
SERVERS = {
    BrokerKind.nats: ["nats"],
    BrokerKind.rabbitmq: ["rabbitmq"],
    BrokerKind.kafka: ["kafka", "nats"],
    BrokerKind.memory: [],
}
EXTRAS = {
    BrokerKind.nats: ["nats"],
    BrokerKind.rabbitmq: ["rabbitmq"],
    BrokerKind.kafka: ["kafka", "nats"],
    BrokerKind.memory: [],
}


def check_name(name: str, option: str = "NAME") -> str:
    """The name, which a package, a service and a project can have.

    Raises:
        UsageError: it cannot; it says why, and what would do.
    """
    if not _NAME.fullmatch(name):
        plain = unicodedata.normalize("NFKD", name.casefold()).encode("ascii", "ignore").decode()
        better = re.sub(r"[^a-z0-9]+", "_", plain).strip("_")
        better = better if _NAME.fullmatch(better) and not keyword.iskeyword(better) else "my_shop"
        raise UsageError(
            f"{option} {name!r}: a package is named by small letters, digits and _, and begins with a letter: {better}"
        )
    if keyword.iskeyword(name) or keyword.issoftkeyword(name):
        raise UsageError(
            f"{option} {name!r} is a word of Python itself, and no package can be imported so: {name}_service"
        )
    if name in TAKEN or name in sys.stdlib_module_names:
        raise UsageError(f"{option} {name!r} is another module's name, which it would hide: {name}_service")
    if len(name) > LONGEST:
        raise UsageError(f"{option} {name[:LONGEST]!r}... has {len(name)} letters; the most are {LONGEST}")
    return name


def plan(
    name: str,
    kind: Kind,
    broker: BrokerKind,
    found: Mapping[str, str] | None = None,
    *,
    has_tests: bool = True,
) -> dict[str, Any]:
    """What the templates are told.

    Args:
        found: services that are there already, and the target of each.
        has_tests: whether there are tests beside these.

    Raises:
        UsageError: there is no such project.
    """
    has_edge = kind in (Kind.api, Kind.web)
    if has_edge and broker is BrokerKind.memory:
        raise UsageError(
            f"--type {kind} --broker memory: memory:// lives within one process, and the services behind it are not in "
            "it; name another broker (its tests run on memory:// all the same)"
        )
    outside, inside = URLS[broker]
    rpc_outside, rpc_inside = RPC_URLS.get(broker, ("", ""))
    target, endpoint = TARGETS.get(kind, ("", ""))
    variables = {"EVENTMICRO_BROKER": inside} | ({"EVENTMICRO_RPC_BROKER": rpc_inside} if rpc_inside else {})
    own = {name: f"{name}.{target}"} if target else {}
    code = sorted({_part_of(each) for each in found.values()}) if found else [name]
    return {
        "name": name,
        "dns": name.replace("_", "-"),
        "about": ABOUT[kind],
        "type": kind.value,
        "broker": broker.value,
        "url": outside,
        "rpc_url": rpc_outside,
        "inside": variables | ({"OPEN_ENDPOINTS": "shop.greet"} if kind is Kind.api else {}),
        "servers": SERVERS[broker],
        "target": own.get(name, ""),
        "endpoint": endpoint,
        "services": dict(found or own),
        "found": bool(found),
        "code": code,
        "checked": [*code, *(["tests"] if has_tests or not found else [])],
        "sources": sorted({each.partition("/")[0] for each in code if each.startswith(SOURCES)}),
        "port": 8000 if has_edge else 8080,
        "dependencies": _dependencies(has_edge, broker),
        "dev_dependencies": _dev_dependencies(has_edge, broker),
    }


def _part_of(target: str) -> str:
    """The module or the package in which a target is: `src/shop` of `src/shop/orders.py:service`."""
    path = target.rpartition(":")[0]
    folder = next((each for each in SOURCES if path.startswith(each)), "")
    return folder + path.removeprefix(folder).partition("/")[0]


def _dependencies(has_edge: bool, broker: BrokerKind) -> list[str]:
    extras = ",".join(([] if has_edge else ["cli"]) + EXTRAS[broker])
    edge = ["starlette>=0.46", "uvicorn>=0.34"] if has_edge else []
    return [f"eventmicro{f'[{extras}]' if extras else ''}{SINCE}", *edge]


def _dev_dependencies(has_edge: bool, broker: BrokerKind) -> list[str]:
    """Those of the tests, and the server that `eventmicro run` embeds."""
    embedded = [f"eventmicro[embedded]{SINCE}"] if broker is BrokerKind.nats and not has_edge else []
    return [*embedded, "mypy>=1.15", "pytest>=8", "ruff>=0.9", *(["httpx2>=2.16"] if has_edge else [])]
