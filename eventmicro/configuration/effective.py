"""What holds for a service, setting by setting, and where each value comes from; nothing in it that is secret."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

from eventmicro.configuration.handlers import HandlerSettings, options_of
from eventmicro.configuration.known import SERVICE
from eventmicro.configuration.reading import NONE, Group, Value
from eventmicro.configuration.words import AT_START, Layer, below, places, read_words
from eventmicro.handlers.depends import name_of
from eventmicro.rpc.declare import declare_endpoint
from eventmicro.sources import HANDLERS, URLS, Keys, Said, all_said, as_text, said_url, service_path

CODE, DEFAULT = "code", "default"
HIDDEN = "***"
_SECRET_NAME = re.compile("password|token|secret", re.IGNORECASE)
_SECRET_PAIR = re.compile(r"(?:^|(?<=&))(\w*(?:password|token|secret)\w*)=[^&]*", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Row:
    """A setting: its name with the group before it, its value, where that is said."""

    name: str
    value: Any
    where: str

    @property
    def shown(self) -> str:
        """The value as it is written in the environment."""
        if isinstance(self.value, float) and self.value.is_integer():
            return str(int(self.value))
        if isinstance(self.value, dict):
            return ",".join(f"{key}={each}" for key, each in self.value.items()) or NONE
        return NONE if self.value is None else as_text(self.value)


def effective(code: Mapping[str, Any], service: str | None, made: Callable[..., Any]) -> Iterator[Row]:
    """What holds for a service.

    Args:
        code: the words by which its code makes it.
        service: its name; None: for one of any name.
        made: what takes the words, for their defaults.

    Raises:
        UsageError: a name or a value that is set does not exist.
    """
    words, _ = read_words(code, service, is_service=True)
    found = all_said()
    defaults = {name: each.default for name, each in inspect.signature(made).parameters.items()}
    for name, option in SERVICE.items():
        for_all = below(found, (name,))
        own = below(found, (*service_path(service), name)) if service is not None else {}
        counts = own if name in code and name != "metadata" else {**for_all, **own}
        value = words.get(name, defaults[name])
        if name in AT_START and name not in words and (said := for_all.get(())):
            value = said.read()
        if name in URLS and counts:
            path = (*service_path(service), name) if service is not None and own else (name,)
            yield Row(name, shown_url(path), places(own or counts))
            continue
        if isinstance(option, Group):
            yield from _group(name, option, value, counts, CODE if name in code else DEFAULT)
        else:
            hides = any(said.is_secret for said in counts.values())
            where = places(counts) or (CODE if name in code else DEFAULT)
            yield Row(name, HIDDEN if hides and value is not None else plain(value), where)


class HasHandlers(Protocol):
    """What is looked at of a service: what its code says of each handler."""

    @property
    def name(self) -> str: ...
    @property
    def said_of(self) -> Mapping[str, Mapping[str, Any]]: ...
    @property
    def endpoints(self) -> Mapping[str, object]: ...


def effective_of_handlers(service: HasHandlers, code: Mapping[str, Any], rows: Iterable[Row]) -> Iterator[Row]:
    """What holds for each handler of a service.

    Args:
        service: the service.
        code: the words by which its code makes it.
        rows: what holds for the service.

    Raises:
        UsageError: a name or a value that is set does not exist.
    """
    settings = HandlerSettings(service.name)
    delivery = read_words(code, service.name, is_service=True)[0].get("delivery")
    for_all = {} if delivery is None else delivery.said
    of_service = {name: row for row in rows if (name := row.name.removeprefix("delivery.")) != row.name}
    for handler, said in service.said_of.items():
        is_endpoint = handler in service.endpoints
        otherwise = _endpoint_defaults() if is_endpoint else {"queue": _own_queue(service, handler), **of_service}
        words = settings.merged(handler, said if is_endpoint else {**for_all, **said}, is_endpoint=is_endpoint)
        for option, kind in options_of(is_endpoint=is_endpoint).items():
            layer = below(settings.of(handler), (option,))
            if layer or option in said:
                found = _said(option, kind, words[option], layer, otherwise, is_in_code=option in said)
            else:
                found = (replace(row, name=name) for name, row in otherwise.items() if name.partition(".")[0] == option)
            yield from (replace(row, name=f"{HANDLERS}.{handler}.{row.name}") for row in found)


def _endpoint_defaults() -> dict[str, Row]:
    takes = inspect.signature(declare_endpoint).parameters
    return {name: Row(name, takes[name].default, DEFAULT) for name in options_of(is_endpoint=True)}


def _own_queue(service: HasHandlers, handler: str) -> Row:
    return Row("queue", f"{service.name}.{handler}", DEFAULT)


def _said(
    name: str, option: Value | Group, value: Any, layer: Layer, otherwise: Mapping[str, Row], *, is_in_code: bool
) -> Iterator[Row]:
    """An option of which something is said for a handler; of a part of it of which nothing is, what holds for all."""
    where = CODE if is_in_code else DEFAULT
    if isinstance(option, Value):
        yield Row(name, plain(value), places(layer) or where)
        return
    for row in _group(name, option, value, layer, where):
        yield replace(row, where=otherwise[row.name].where) if row.where == DEFAULT and row.name in otherwise else row


def _group(name: str, group: Group, value: Any, layer: Layer, otherwise: str) -> Iterator[Row]:
    if value is None and group.whole is None:
        value = group.kind()
    if value is None or isinstance(value, str):
        yield Row(name, value, places(layer) or otherwise)
        return
    said = getattr(value, "said", None)
    otherwise = layer[()].where if () in layer else otherwise
    for part, option in group.parts.items():
        here = below(layer, (part,))
        elsewhere = otherwise if said is None or part in said else DEFAULT
        each = getattr(value, part)
        if isinstance(option, Group):
            yield from _group(f"{name}.{part}", option, each, here, elsewhere)
        else:
            yield Row(f"{name}.{part}", plain(each), places(here) or elsewhere)


def is_hidden(said: Said) -> bool:
    """Whether a value is secret: out of a file of secrets, or by its name."""
    return said.is_secret or is_secret_name(said.path[-1])


def is_secret_name(name: str) -> bool:
    """Whether what has this name is secret by it."""
    return _SECRET_NAME.search(name) is not None


def shown_url(path: Keys) -> str | None:
    """The URL that is set there, with all hidden that is secret or comes out of a file of secrets."""
    found = all_said()
    hides = {at: Said(at, HIDDEN, said.where, said.in_file) for at, said in found.items() if said.is_secret}
    shown = said_url(*path, found=found | hides)
    return None if shown is None else without_password(shown)


def plain(value: Any) -> Any:
    """The value for a person and for a program, an object by what it is."""
    if isinstance(value, str):
        return without_password(value) if "://" in value else value
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, Mapping):
        return {str(key): str(each) for key, each in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [str(each) for each in value]
    return name_of(value) if callable(value) else type(value).__name__


def without_password(url: str) -> str:
    """The URL without its password, or its token; with more of it hidden where a sign in one of these splits it."""
    scheme, mark, rest = url.partition("://")
    address, question, query = rest.partition("?")
    if "@" in query:  # there may be a '?' in the password
        return f"{scheme}{mark}{HIDDEN}"
    login, at, hosts = address.rpartition("@")
    user, colon, _ = login.partition(":")
    shown = "" if not at else f"{user}:{HIDDEN}" if colon and not set(user) & set("@,/") else HIDDEN
    pairs = _SECRET_PAIR.sub(rf"\1={HIDDEN}", query)
    return f"{scheme}{mark}{shown}{at}{hosts}{question}{pairs}"
