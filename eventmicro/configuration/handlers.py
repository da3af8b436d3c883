"""What is said outside of the code for single handlers: `[services.orders.handlers.bill]`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from eventmicro.configuration.words import Layer, WrongSetting, below, merge, places
from eventmicro.errors import UsageError
from eventmicro.sources import HANDLERS, all_said, is_anything_said, name_path, service_path

if TYPE_CHECKING:
    from eventmicro.configuration.known import Options


class HandlerSettings:
    """What is said for the handlers of one service, when this is made; it goes before what their code says."""

    def __init__(self, service: str) -> None:
        self._service = service
        self._said: Layer = below(all_said(), (*service_path(service), HANDLERS)) if is_anything_said() else {}

    def of(self, handler: str) -> Layer:
        """What is said for one of them."""
        if not self._said:
            return {}
        from eventmicro.configuration.known import HANDLER, is_option

        here = below(self._said, name_path(handler))
        return {path: said for path, said in here.items() if path and is_option(path, HANDLER)}

    def merged(self, handler: str, words: Mapping[str, Any], *, is_endpoint: bool) -> dict[str, Any]:
        """The words of a handler, those of its code with those changed that are said here.

        Raises:
            WrongSetting: handlers of its kind have no such option, or it cannot have such a value.
        """
        merged = dict(words)
        if layer := self.of(handler):
            options = options_of(is_endpoint=is_endpoint)
            self._check_kind(handler, layer, options, is_endpoint=is_endpoint)
            for name in dict.fromkeys(path[0] for path in layer):
                merged[name] = merge(options[name], words.get(name), below(layer, (name,)))
        return merged

    def check(self, handlers: Iterable[str]) -> None:
        """Refuse what is said for handlers that the service does not have, of which these are all.

        Raises:
            WrongSetting: naming what is said for nothing, and what may be meant.
        """
        left = dict(self._said)
        handlers = list(handlers) if left else ()
        for handler in handlers:
            for path in self.of(handler):
                left.pop((*name_path(handler), *path), None)
        if left:
            (name, *_), said = next(iter(left.items()))
            raise WrongSetting(
                f"{said.where}: service {self._service!r} has no handler {name!r}{_meant(name, handlers)}"
            )

    @contextmanager
    def blamed(self, handler: str) -> Iterator[None]:
        """Within it an error of a handler's declaration says what is said for it here, which may be what is wrong."""
        try:
            yield
        except UsageError as error:
            if layer := self.of(handler):
                raise WrongSetting(f"{error}; some of it is set by {places(layer)}") from None
            raise

    def _check_kind(self, handler: str, layer: Layer, options: Options, *, is_endpoint: bool) -> None:
        for path, said in layer.items():
            if path[0] not in options:
                kind = "an endpoint" if is_endpoint else "a subscriber"
                raise WrongSetting(
                    f"{said.where}: {self._service}.{handler} is {kind}, which has no option {path[0]!r}; there are "
                    f"{', '.join(options)}"
                )


def options_of(*, is_endpoint: bool) -> Options:
    """What can be said of an endpoint, and of a subscriber."""
    from eventmicro.configuration.known import ENDPOINT, SUBSCRIBER

    return ENDPOINT if is_endpoint else SUBSCRIBER


def _meant(name: str, handlers: Iterable[str]) -> str:
    from difflib import get_close_matches

    shown = {"__".join(name_path(each)): each for each in handlers}
    close = get_close_matches(name, shown, n=1, cutoff=0.5)
    if close:
        return f"; did you mean {shown[close[0]]!r}?"
    return f"; it has {', '.join(shown.values())}" if shown else ""
