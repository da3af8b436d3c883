"""Python source of contracts, whatever they are made from."""

from __future__ import annotations

import inspect
import keyword
import re
import textwrap
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

# How long a line may be.
WIDTH = 120
INDENT = "    "


@dataclass(frozen=True, slots=True)
class WrittenMethod:
    """A method of a contract as it is written.

    attribute, name: its name in Python, where that is free and fits, and that of the endpoint.
    request, reply: annotations; an empty `request`: it takes nothing. The rest is as of `contracts.contract.Method`.
    """

    attribute: str
    name: str
    request: str
    reply: str
    takes_stream: bool = False
    yields: bool = False
    timeout: float | None = None
    idempotent: bool = False
    description: str = ""


@dataclass(frozen=True, slots=True)
class WrittenContract:
    """A contract as it is written."""

    name: str
    service: str
    version: str
    methods: tuple[WrittenMethod, ...]
    description: str = ""

    @property
    def has_options(self) -> bool:
        """Whether one of its methods needs `@rpc`."""
        return any(_options(method, attribute) for attribute, method in _attributes(self.methods))

    @property
    def has_streams(self) -> bool:
        """Whether one of its methods takes or gives a stream."""
        return any(method.takes_stream or method.yields for method in self.methods)


def write_contract(contract: WrittenContract) -> str:
    """The source of a contract's class."""
    version = f", version={quoted(contract.version)}" if contract.version else ""
    service = f", service={quoted(contract.service)}" if contract.service else ""
    parts = [f"class {contract.name}(Contract, Protocol{service}{version}):"]
    if contract.description:
        parts += [docstring(contract.description, INDENT), ""]
    for attribute, method in _attributes(contract.methods):
        parts += [_method(attribute, method), ""]
    return "\n".join(parts).rstrip()


def write_module(head: str, *parts: str) -> str:
    """A module: its docstring and its imports, and two empty lines before each further part."""
    return "\n\n\n".join([head, *parts]) + "\n"


def imports(contracts: Iterable[WrittenContract], *, others: Iterable[str] = ()) -> str:
    """The imports of contracts, and others, one a line, sorted as ruff does."""
    contracts = list(contracts)
    named = ["Contract", *(["rpc"] if any(each.has_options for each in contracts) else [])]
    standard, foreign = ["from typing import Protocol"], [f"from eventmicro import {', '.join(named)}"]
    if any(each.has_streams for each in contracts):
        standard.append("from collections.abc import AsyncIterator")
    for line in others:
        (standard if line.split()[1].split(".")[0] in _STANDARD else foreign).append(line)
    blocks = ["from __future__ import annotations", *(_block(lines) for lines in (standard, foreign))]
    return "\n\n".join(block for block in blocks if block)


_STANDARD = {"collections", "datetime", "decimal", "enum", "ipaddress", "pathlib", "typing", "uuid"}


def _block(lines: list[str]) -> str:
    """Lines of imports: `import x` before `from x import y`, one for all that comes from a module."""
    plain = sorted(line for line in set(lines) if line.startswith("import "))
    names: dict[str, set[str]] = {}
    for line in set(lines) - set(plain):
        module, _, named = line.removeprefix("from ").partition(" import ")
        names.setdefault(module, set()).update(named.split(", "))
    return "\n".join(plain + [f"from {module} import {', '.join(sorted(names[module]))}" for module in sorted(names)])


def docstring(text: str, indent: str) -> str:
    """A text as a docstring, that no quote or backslash in it ends."""
    seen = "".join(sign if sign.isprintable() or sign in "\n\t" else " " for sign in text)
    safe = inspect.cleandoc(seen).replace("\\", "\\\\").replace('"""', '\\"\\"\\"')
    lines = [wrapped for line in safe.splitlines() for wrapped in _wrap(line.rstrip(), WIDTH - len(indent) - 6)]
    if len(lines) <= 1:
        end = ' """' if safe.endswith('"') else '"""'
        return f'{indent}"""{safe}{end}'
    return "\n".join([f'{indent}"""{lines[0]}', *(f"{indent}{line}".rstrip() for line in lines[1:]), f'{indent}"""'])


def _wrap(line: str, width: int) -> list[str]:
    if len(line) <= width:
        return [line]
    return textwrap.wrap(line, width, break_long_words=False, break_on_hyphens=False) or [line]


def quoted(value: Any) -> str:
    """A JSON value in Python, with double quotes where none is in it."""
    if isinstance(value, list):
        return f"[{', '.join(map(quoted, value))}]"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{quoted(name)}: {quoted(each)}' for name, each in value.items())}}}"
    text = repr(value)
    return f'"{text[1:-1]}"' if isinstance(value, str) and text[0] == "'" and '"' not in text else text


def snake(name: str) -> str:
    """`GetURLOf` as `get_url_of`."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower()


def camel(name: str) -> str:
    """`get_url_of` as `GetUrlOf`."""
    return "".join(part[:1].upper() + part[1:] for part in re.split(r"[_-]+", name) if part)


def identifier(name: str) -> str:
    """A name that Python takes, as near as may be: `class` as `class_`, `a-b` as `a_b`, `2nd` as `n2nd`."""
    made = re.sub(r"\W", "_", name).strip("_") or "unnamed"
    if not f"n{made}".isidentifier():
        made = re.sub(r"\W", "_", made, flags=re.ASCII)
    if made[0].isdigit():
        made = f"n{made}"
    return f"{made}_" if keyword.iskeyword(made) else made


def distinct(name: str, taken: Iterable[str]) -> str:
    """The name, with a number behind it where it is taken."""
    taken, number, found = set(taken), 2, name
    while found in taken:
        found, number = f"{name}_{number}", number + 1
    return found


def _attributes(methods: Iterable[WrittenMethod]) -> list[tuple[str, WrittenMethod]]:
    """Each method with its name in Python."""
    found: dict[str, WrittenMethod] = {}
    for method in methods:
        found[distinct(identifier(method.attribute), found)] = method
    return list(found.items())


def _method(attribute: str, method: WrittenMethod) -> str:
    request = f"AsyncIterator[{method.request}]" if method.takes_stream else method.request
    reply = f"AsyncIterator[{method.reply}]" if method.yields else method.reply
    name = "requests" if method.takes_stream else "request"
    taken = f"self, {name}: {request}" if request else "self"
    start = f"{INDENT}{'' if method.yields else 'async '}def {attribute}("
    line = f"{start}{taken}) -> {reply}:"
    if len(line) + len(" ...") > WIDTH:
        line = f"{start}\n{INDENT * 2}{taken}\n{INDENT}) -> {reply}:"
    options = _options(method, attribute)
    lines = [f"{INDENT}@rpc({', '.join(options)})"] if options else []
    if method.description:
        return "\n".join([*lines, line, docstring(method.description, INDENT * 2), f"{INDENT * 2}..."])
    return "\n".join([*lines, f"{line} ..."])


def _options(method: WrittenMethod, attribute: str) -> list[str]:
    options = [f"name={quoted(method.name)}"] if method.name != attribute else []
    options += [] if method.timeout is None else [f"timeout={float(method.timeout)!r}"]
    return options + (["idempotent=True"] if method.idempotent else [])
