"""What a Service or a Client is made with: what its code says, and what is said outside of it.

What is said outside for all holds where the code says nothing; what is said for one service by its name goes before
its code.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import wraps
from typing import TYPE_CHECKING, Any, TypeVar

from eventmicro.errors import UsageError
from eventmicro.sources import URLS, all_said, is_anything_said, said_url, service_path

if TYPE_CHECKING:  # most programs say nothing outside of their code, and load none of it
    from eventmicro.configuration.reading import Group, Value
    from eventmicro.sources import Said

K = TypeVar("K", bound=type)


class WrongSetting(UsageError):
    """What is said outside of the code is wrong; the code is not to blame."""


Keys = tuple[str, ...]
Layer = Mapping[Keys, "Said"]
"""What is said of an option in one of these ways: of it as a whole at `()`, and of its parts."""

# What is looked up when a service starts, so that it may still be said then.
AT_START = ("broker", "rpc_broker", "registry", "register_ttl", "register_interval")


def configurable(kind: K) -> K:
    """A class whose options can be said outside of the code, too; `said` is what its code says."""
    made: Callable[..., None] = kind.__init__  # type: ignore[misc]
    is_service = kind.__name__ == "Service"

    @wraps(made)
    def init(self: Any, *values: Any, **words: Any) -> None:
        self.said = words
        if not is_anything_said():
            made(self, *values, **words)
            return
        name = (values[0] if values else words.get("name")) if is_service else None
        try:
            configured, where = read_words(words, name if isinstance(name, str) else None, is_service=is_service)
        except UsageError as error:
            raise WrongSetting(str(error)) from None
        try:
            made(self, *values, **configured)
        except UsageError as error:
            raise _placed(error, where) from None

    kind.__init__ = init  # type: ignore[misc]
    return kind


def read_words(
    code: Mapping[str, Any], service: str | None, *, is_service: bool
) -> tuple[dict[str, Any], dict[str, str]]:
    """All words, those of the code among them, and where each is said that is said outside of it.

    Raises:
        UsageError: there is no such setting, or it cannot have such a value.
    """
    found = all_said()
    if all(path[0] in URLS and len(path) < 3 for path in found):  # mostly it is the broker, which is no word yet
        return dict(code), {}
    from eventmicro.configuration.known import CLIENT, SERVICE, check_names

    check_names()
    words, where = dict(code), dict[str, str]()
    for name, option in (SERVICE if is_service else CLIENT).items():
        for_all = below(found, (name,)) if name not in AT_START else {}
        own = below(found, (*service_path(service), name)) if service is not None else {}
        if own and name in URLS:
            words[name] = said_url(*service_path(service or ""), name)
        elif name == "metadata":
            words |= _labels(name, option, for_all, code, own)
        else:
            for layer in (own,) if name in code else (for_all, own):
                if layer:
                    words[name] = merge(option, words.get(name), layer)
        if own or (for_all and (name not in code or name == "metadata")):
            where[name] = places(own or for_all)
    return words, where


def merge(option: Value | Group, value: Any, layer: Layer) -> Any:
    """The value of an option, with that changed which this layer says.

    Raises:
        UsageError: it cannot have such a value.
    """
    from eventmicro.configuration.reading import Value

    if isinstance(option, Value):
        return option(layer[()])
    if option.whole is not None and () in layer:
        value = option.whole(layer[()])
    parts = {name: part for name in option.parts if (part := below(layer, (name,)))}
    try:
        value = option.kind(value) if isinstance(value, str) else value
        said = {name: merge(option.parts[name], getattr(value, name, None), part) for name, part in parts.items()}
        return _changed(option.kind, value, said) if said else value
    except UsageError as error:
        raise (
            error
            if str(error).startswith(tuple(said.where for said in layer.values()))
            else UsageError(f"{places(layer)}: {error}")
        ) from None


def _changed(kind: type[Any], value: Any, said: dict[str, Any]) -> Any:
    if value is None:
        return kind(**said)
    before = getattr(value, "said", None)  # DeliveryOptions tell what was said from what is merely a default
    return kind(**{**before, **said}) if before is not None else replace(value, **said)


def _labels(name: str, option: Any, for_all: Layer, code: Mapping[str, Any], own: Layer) -> dict[str, Any]:
    """Each label by itself; nothing where there are none."""
    layers = [_one_by_one(option, for_all), code.get(name) or {}, _one_by_one(option, own)]
    return {name: {key: label for layer in layers for key, label in layer.items()}} if for_all or own else {}


def _one_by_one(option: Value, layer: Layer) -> dict[str, str]:
    found: dict[str, str] = {}
    for path, said in layer.items():
        found |= {path[0]: str(said.read())} if path else option(said)
    return found


def below(layer: Layer, path: Keys) -> dict[Keys, Said]:
    """What is said at a path and below it, by the paths from there."""
    return {at[len(path) :]: said for at, said in layer.items() if at[: len(path)] == path}


def places(layer: Layer) -> str:
    """Where it is said."""
    return ", ".join(dict.fromkeys(said.where for said in layer.values()))


def _placed(error: UsageError, where: Mapping[str, str]) -> UsageError:
    """The error with the place at which that is said which it is about."""
    named = re.match(r"\w+", str(error))
    place = where.get(named[0]) if named else None
    return WrongSetting(f"{place}: {error}") if place else error
