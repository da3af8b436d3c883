"""What may follow in a line that is being typed: commands, options, names of what is there, fields of a request."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable, Iterator, Mapping
from typing import Any

from prompt_toolkit.completion import CompleteEvent, Completer, Completion
from prompt_toolkit.document import Document

from eventmicro.cli.shell.fields import fields_after
from eventmicro.cli.shell.replies import REFERENCE
from eventmicro.cli.shell.session import HeldSession
from eventmicro.cli.show import one_line
from eventmicro.errors import UsageError
from eventmicro.registry import STREAM, TOPIC, EndpointRecord, ServiceRecord
from eventmicro.wire import has_wildcards

# What the first word behind a command is the name of.
NAMES = {
    **dict.fromkeys(("describe", "get", "services", "nodes", "health", "stats", "deregister"), "service"),
    "call": "endpoint",
    "stream": "stream",
    "publish": "topic",
    "subscribe": "topic",
    "stop": "beside",
    "help": "command",
}


class LineCompleter(Completer):
    """Completes by what was known last, at once; whoever types never waits for a broker.

    Args:
        session: who knows it.
        commands: the commands by name, and those of the shell itself.
        own: the names of the latter.
    """

    def __init__(self, session: HeldSession, commands: Mapping[str, Any], own: Iterable[str]) -> None:
        self._session = session
        self._commands = commands
        self._own = list(own)

    async def get_completions_async(
        self, document: Document, complete_event: CompleteEvent
    ) -> AsyncGenerator[Completion, None]:
        """As `get_completions`, and a look at what is there, for the next time."""
        self._session.look()
        for completion in self.get_completions(document, complete_event):
            yield completion

    def get_completions(self, document: Document, complete_event: CompleteEvent) -> Iterator[Completion]:
        """What may follow the text before the cursor."""
        typed, found = self._found(document.text_before_cursor)
        for name in found:
            yield Completion(one_line(name), start_position=-len(typed))

    def _found(self, text: str) -> tuple[str, list[str]]:
        """What is typed of the last word, and the words that begin so."""
        text = text.lstrip()
        command, space, rest = text.partition(" ")
        if not space:
            return command, _beginning(command, [*self._commands, *self._own])
        if (reference := self._reference(rest)) is not None:
            return reference
        if (field := self._field(command, rest)) is not None:
            return field[0], [f'"{name}": ' for name in field[1]] if not _is_quoted(rest, field[0]) else field[1]
        before, _, typed = rest.rpartition(" ")
        if typed.startswith("-"):
            return typed, _beginning(typed, self._options(command))
        return typed, [] if before.strip() else _beginning(typed, self._names(NAMES.get(command, "")))

    def _options(self, command: str) -> list[str]:
        if command not in self._commands:
            return []
        return [name for each in self._commands[command].params for name in each.opts if name.startswith("--")]

    def _names(self, kind: str) -> list[str]:
        known = self._session.known
        if kind == "service":
            return sorted({each.name for each in known})
        if kind == "endpoint":
            return sorted({f"{s.name}.{e.name}" for s, e in _endpoints(known)})
        if kind == "stream":
            return sorted({f"{s.name}.{e.name}" for s, e in _endpoints(known) if STREAM in e.metadata})
        if kind == "topic":
            return sorted(_topics(known))
        if kind == "command":
            return [*self._commands, *self._own]
        return self._session.beside if kind == "beside" else []

    def _reference(self, rest: str) -> tuple[str, list[str]] | None:
        """A reply that is being named, `$_.it`, and what it has."""
        word = rest[rest.rfind("$") :]
        whole = REFERENCE.fullmatch(word.rstrip("."))
        if "$" not in rest or (word != "$" and whole is None):
            return None
        if "." not in word:
            return word, _beginning(word, ["$_", *(f"${number}" for number, _ in self._session.replies)])
        path, _, typed = word.rpartition(".")
        found = REFERENCE.fullmatch(path)
        try:
            value = None if found is None else self._session.replies.find(found[2], found[3])
        except UsageError:
            return typed, []
        return typed, _beginning(typed, value if isinstance(value, dict) else ())

    def _field(self, command: str, rest: str) -> tuple[str, list[str]] | None:
        if command not in ("call", "publish") or "{" not in rest:
            return None
        return fields_after(rest[rest.index("{") :], self._schema(command, rest.split(" ", 1)[0]))

    def _schema(self, command: str, name: str) -> Mapping[str, Any] | None:
        known = self._session.known
        if command == "call":
            return next((e.request for s, e in _endpoints(known) if f"{s.name}.{e.name}" == name), None)
        takers = (each for service in known for each in service.endpoints if each.metadata.get(TOPIC) == name)
        return next((each.request for each in takers if each.request), None)


def _beginning(typed: str, names: Iterable[str]) -> list[str]:
    return [name for name in names if name.startswith(typed)]


def _is_quoted(text: str, typed: str) -> bool:
    return text[: len(text) - len(typed)].endswith('"')


def _endpoints(known: Iterable[ServiceRecord]) -> Iterator[tuple[ServiceRecord, EndpointRecord]]:
    return ((service, each) for service in known for each in service.endpoints if not each.is_subscriber)


def _topics(known: Iterable[ServiceRecord]) -> set[str]:
    topics = {each.metadata.get(TOPIC, "") for service in known for each in service.endpoints}
    return {topic for topic in topics if topic and not has_wildcards(topic)}
