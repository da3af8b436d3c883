"""Depends: what a handler needs besides its message, made for it by a function of yours.

    async def session(context: Context) -> AsyncIterator[Session]:
        async with context.state.sessions() as session:
            yield session

    @service.rpc
    async def quote(request: QuoteRequest, db: Annotated[Session, Depends(session)]) -> Quote: ...

The function may be plain or async, return its value or yield it once and clean up after the handler, and have a Context
and dependencies of its own as parameters. Within one message it runs once, however many ask for it.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any, get_args, get_origin, get_type_hints

from eventmicro.context import Context
from eventmicro.errors import SignatureError

Overrides = Mapping[Callable[..., Any], Callable[..., Any]]
"""Functions to use in the place of others, for tests."""

# Where a value of the plan comes from: the message, the context, then the results of the steps in their order.
MESSAGE, CONTEXT = 0, 1


@dataclass(frozen=True, slots=True)
class Depends:
    """Marks a parameter as made by `function`: in `Annotated[Session, Depends(session)]`, or as its default."""

    function: Callable[..., Any]

    def __post_init__(self) -> None:
        if not callable(self.function):
            raise SignatureError(f"Depends({self.function!r}): write the function itself, Depends(session)")


Place = int | str
"""Where an argument comes from: a place in the plan's values, or a field of the message."""


@dataclass(frozen=True, slots=True)
class Arguments:
    """The places from which a function takes its arguments."""

    positions: tuple[Place, ...] = ()
    keywords: tuple[tuple[str, Place], ...] = ()

    def places(self) -> list[Place]:
        """All of them."""
        return [*self.positions, *(place for _, place in self.keywords)]


@dataclass(frozen=True, slots=True)
class Step:
    """One dependency: its function, what that takes of the values before it, and how its own value comes.

    Where it cleans up, the function returns a context manager: an async one if it `waits`.
    """

    function: Callable[..., Any]
    arguments: Arguments
    waits: bool
    cleans_up: bool


class Plan:
    """The steps that fill in a handler's dependencies, in their order; solved once, when the service starts."""

    def __init__(self, overrides: Overrides | None = None) -> None:
        self.steps: list[Step] = []
        self._overrides = overrides or {}
        self._places: dict[Callable[..., Any], int] = {}
        self._solving: list[Callable[..., Any]] = []

    def place(self, dependency: Depends) -> int:
        """Where in the plan's values the result of a dependency stands; its step is added at the first asking."""
        function = self._overrides.get(dependency.function, dependency.function)
        if function not in self._places:
            step = self._solve(function)
            self.steps.append(step)
            self._places[function] = CONTEXT + len(self.steps)
        return self._places[function]

    def place_of_context(self, function: Callable[[Context], Any]) -> int:
        """Where the result of a function of the context stands."""
        self.steps.append(Step(function, Arguments((CONTEXT,)), waits=False, cleans_up=False))
        return CONTEXT + len(self.steps)

    def _solve(self, function: Callable[..., Any]) -> Step:
        if function in self._solving:
            circle = " -> ".join(name_of(f) for f in (*self._solving, function))
            raise SignatureError(f"dependencies in a circle: {circle}")
        self._solving.append(function)
        try:
            arguments = self._arguments(function)
        finally:
            self._solving.pop()
        called = called_by(function)
        if inspect.isasyncgenfunction(function) or inspect.isasyncgenfunction(called):
            return Step(asynccontextmanager(function), arguments, waits=True, cleans_up=True)
        if inspect.isgeneratorfunction(function) or inspect.isgeneratorfunction(called):
            return Step(contextmanager(function), arguments, waits=False, cleans_up=True)
        waits = inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(called)
        return Step(function, arguments, waits=waits, cleans_up=False)

    def _arguments(self, function: Callable[..., Any]) -> Arguments:
        positions: list[Place] = []
        keywords: list[tuple[str, Place]] = []
        skipped = False
        for parameter, hint in parameters(function):
            dependency = dependency_of(parameter, hint)
            if hint is Context:
                place = CONTEXT
            elif dependency is not None:
                place = self.place(dependency)
            elif parameter.default is not parameter.empty or parameter.kind in VARIADIC:
                skipped = True
                continue
            else:
                raise SignatureError(
                    f"dependency {name_of(function)}: parameter {parameter.name!r} is neither a Context nor a "
                    f"dependency; annotate it as Context or Annotated[..., Depends(...)], or give it a default"
                )
            if parameter.kind is parameter.KEYWORD_ONLY or (
                skipped and parameter.kind is not parameter.POSITIONAL_ONLY
            ):
                keywords.append((parameter.name, place))
            else:
                positions.append(place)
        return Arguments(tuple(positions), tuple(keywords))


def called_by(function: Any) -> Any:
    """What runs where a function, a class or an object is called."""
    return function if inspect.isroutine(function) or inspect.isclass(function) else type(function).__call__


VARIADIC = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


def dependency_of(parameter: inspect.Parameter, hint: Any) -> Depends | None:
    """The Depends of a parameter, from its annotation or its default; None where it has none."""
    if isinstance(parameter.default, Depends):
        return parameter.default
    if get_origin(hint) is Annotated:
        return next((extra for extra in get_args(hint)[1:] if isinstance(extra, Depends)), None)
    return None


def parameters(function: Callable[..., Any]) -> list[tuple[inspect.Parameter, Any]]:
    """The parameters of a function, each with its annotation resolved; `inspect.Parameter.empty` where it has none.

    Raises:
        SignatureError: an annotation names something that cannot be found.
    """
    hints = hints_of(function)
    try:
        signature = inspect.signature(function)
    except ValueError:  # some built-in callables have none
        return []
    return [(p, hints.get(p.name, p.empty)) for p in signature.parameters.values()]


def hints_of(function: Callable[..., Any]) -> dict[str, Any]:
    """The resolved annotations of a function, a class or a callable object."""
    annotated: Any = function
    if inspect.isclass(function):
        annotated = function.__init__
    elif isinstance(function, partial) or not inspect.isroutine(function):  # from Python 3.14 on a partial is one
        annotated = getattr(function, "__wrapped__", None) or getattr(function, "func", None) or type(function).__call__
    try:
        return get_type_hints(annotated, include_extras=True)
    except (NameError, AttributeError) as error:
        raise SignatureError(
            f"{name_of(function)}: cannot find {error.name!r}, which an annotation names; "
            f"define or import it at the top of the module, outside `if TYPE_CHECKING`"
        ) from error
    except TypeError:
        return {}


def name_of(function: Any) -> str:
    """What to call a function in a message to its author."""
    return getattr(function, "__qualname__", None) or repr(function)
