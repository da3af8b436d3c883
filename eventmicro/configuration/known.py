"""Which settings there are. A test holds this to what a Service and a Client take."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Literal

from eventmicro.compression import Compression
from eventmicro.configuration.reading import (
    Group,
    Value,
    count,
    count_within,
    group,
    labels,
    number,
    only_parts,
    several,
    text,
    truth,
)
from eventmicro.errors import UsageError
from eventmicro.events.options import DeliveryOptions
from eventmicro.events.publishing import Publishing
from eventmicro.retry import CallRetry
from eventmicro.sources import HANDLERS, NESTED, SERVICES, URLS, Keys, Said, all_said, as_text, variable_of

Options = Mapping[str, Value | Group]

_seconds = number(example="seconds")
_seconds_or_none = number(example="seconds", or_none=True)


def _dead_letter(value: Any) -> str | Literal[False]:
    return False if value is False or value == "false" else as_text(value)


def _start(value: Any) -> str | datetime:
    return value if value in ("new", "all") or isinstance(value, datetime) else datetime.fromisoformat(value)


CLIENT: Options = {
    "broker": text(example="a URL"),
    "rpc_broker": text(example="a URL"),
    "registry": text(example="a URL or a name"),
    "content_type": text(or_none=True),
    "compression": group(Compression, whole=text(or_none=True)),
    "max_decompressed": count(),
    "selector": text(or_none=True),
    "timeout": _seconds,
    "retry": group(CallRetry, whole=only_parts()),
    "hedge": _seconds_or_none,
    "patience": _seconds_or_none,
    "large": text(or_none=True),
    "max_large": count(),
    "publishing": group(Publishing),
    "forward": several("names, with commas between"),
}
_DELIVERY = group(DeliveryOptions).parts
del _DELIVERY["queue"]  # which is a subscriber's own
_DELIVERY["dead_letter"] = Value(_dead_letter, "a subject, or false for nowhere", or_none=True)
_DELIVERY["start"] = Value(_start, "new, all, or a time as 2026-05-01T12:00:00Z")
SERVICE: Options = {
    **CLIENT,
    "version": text(),
    "description": text(),
    "metadata": labels(),
    "id": text(or_none=True),
    "delivery": Group(DeliveryOptions, _DELIVERY),
    "threads": count(),
    "stop_timeout": _seconds,
    "register_ttl": _seconds,
    "register_interval": _seconds,
    "register_required": truth(),
    "needs": several("names of services, with commas between"),
}
# What a single handler has, below `handlers` of its service.
ENDPOINT: Options = {
    "timeout": number(example="seconds", or_none=True),
    "concurrency": count(),
    "internal": truth(),
    "idempotent": truth(),
}
SUBSCRIBER: Options = {"queue": text(example="the name of a queue", or_none=True), **_DELIVERY}
HANDLER: Options = {**ENDPOINT, **SUBSCRIBER}
# What only code can say: functions and objects.
IN_CODE = ("name", "middleware", "codecs", "lifespan", "register_check")
# Options of `eventmicro run`, for all services or for the process of one.
PROCESS: Options = {
    "workers": count_within(range(1, sys.maxsize), "a whole number, 1 or more"),
    "health_port": count_within(range(65536), "a port, 0 to 65535"),
    "health_host": text(),
    "log_level": text(),
    "log_format": text(),
}
GLOBAL: Options = {**SERVICE, **PROCESS, "reload": truth(), "state_dir": text(), "env_file": several("paths")}
# What a service of the file has beside, for its process.
RUN: Options = {
    "target": several("module:service"),
    "after": several("names of services of this file"),
    "restart": text(example="on-failure, always or no"),
    "env_file": several("paths"),
}
LOCAL: Options = {**SERVICE, **PROCESS}
# Variables that are no settings: what processes of one start tell each other, and what our own tests are told.
_ASIDE = ("worker", "service", "parent_socket", "require", "go_servers", "fault_events")
# What Kubernetes sets in each container for a Service whose name begins with `eventmicro`.
_KUBERNETES = re.compile(r".*_(service_(host|port(_.*)?)|port(_\d+_(tcp|udp|sctp)(_(proto|port|addr))?)?)")


def check_names() -> None:
    """Refuse names of settings that do not exist, which would be set for nothing.

    Raises:
        UsageError: naming one, where it is, and what may be meant.
    """
    for path, said in all_said().items():
        if not _is_known(path, in_file=said.in_file) and not (not said.in_file and _is_of_others(path)):
            raise UsageError(_unknown(said))


def _is_of_others(path: Keys) -> bool:
    name = path[0]
    return name.startswith("test_") or (len(path) == 1 and (name in _ASIDE or bool(_KUBERNETES.fullmatch(name))))


def _is_known(path: Keys, *, in_file: bool) -> bool:
    if path[0] != SERVICES:
        return is_option(path, GLOBAL)
    options = {**LOCAL, **RUN} if in_file else LOCAL
    return any(_is_of_service(path[start:], options) for start in range(2, len(path)))


def _is_of_service(path: Keys, options: Options) -> bool:
    """Whether this names one of these options of a service, or one of a handler of it."""
    is_of_handler = path[0] == HANDLERS and any(is_option(path[start:], HANDLER) for start in range(2, len(path)))
    return is_of_handler or is_option(path, options)


def services_said() -> dict[str, Said]:
    """The names of services for which something is set, as variables have them, each with one thing that is."""
    found: dict[str, Said] = {}
    for path, said in all_said().items():
        ends = range(2, len(path)) if path[0] == SERVICES else ()
        if end := next((end for end in ends if _is_of_service(path[end:], SERVICE)), None):
            found.setdefault(NESTED.join(path[1:end]), said)
    return found


def is_option(path: Keys, options: Options) -> bool:
    """Whether this names one of these, or a part of one."""
    option = options.get(path[0])
    if option is None or len(path) == 1:
        return option is not None and (isinstance(option, Value) or option.whole is not None)
    if path[0] in URLS or path[0] == "metadata":
        return len(path) == 2
    return isinstance(option, Group) and is_option(path[1:], option.parts)


def _unknown(said: Said) -> str:
    """That there is no such setting, with those whose names are like it."""
    whose, path, known = _whose(said)
    if not path:
        example = "timeout below [services.orders]" if said.in_file else "EVENTMICRO_SERVICES__ORDERS__TIMEOUT"
        return f"{said.where}: write which setting of which service is meant, as {example}"
    from difflib import get_close_matches  # for errors only

    close = get_close_matches(".".join(path), known, n=1, cutoff=0.5)
    shown = ".".join(path) if said.in_file else said.where.partition(" ")[0]
    meant = "" if not close else close[0] if said.in_file else variable_of(*whose, *close[0].split("."))
    if meant and said.is_secret:
        meant += "_file" if said.in_file else "_FILE"
    rest = f"; did you mean {meant!r}?" if meant else "; `eventmicro config` lists those there are"
    return f"{said.where}: there is no setting {shown!r}{rest}"


def _whose(said: Said) -> tuple[Keys, Keys, list[str]]:
    """What is said here that there is not: the service or the handler for which, the rest, and what there could be."""
    path = said.path
    if path[0] != SERVICES:
        return (), path, [*names(GLOBAL), SERVICES, *_as_of_services(path)]
    if path[2:3] == (HANDLERS,) and len(path) > 4:
        return path[:4], path[4:], names(HANDLER)
    rest = path[2:]
    known = names({**LOCAL, **RUN} if said.in_file else LOCAL)
    of_handler = [".".join((HANDLERS, *rest[1:]))] if _is_of_service((HANDLERS, *rest[1:]), {}) else []
    return path[:2], rest, known + of_handler


def _as_of_services(path: Keys) -> list[str]:
    """The same of a service, where the word before its name is nearly the right one: `[service.orders]`."""
    from difflib import get_close_matches  # for errors only

    is_near = len(path) > 1 and get_close_matches(path[0], [SERVICES], cutoff=0.8)
    return [".".join((SERVICES, *path[1:]))] if is_near else []


def names(options: Options, before: str = "") -> list[str]:
    """The names of these, of groups those of their parts: `retry.attempts`."""
    found: list[str] = []
    for name, option in options.items():
        if isinstance(option, Value) or option.whole is not None:
            found.append(before + name)
        if isinstance(option, Group):
            found += names(option.parts, f"{before}{name}.")
    return found
