"""A contract as a `.proto` file, for those who are not of Python."""

from __future__ import annotations

import re
from typing import Any

from eventmicro.contracts.contract import Method, Promise, read_contract
from eventmicro.errors import UsageError
from eventmicro.generating.messages import EMPTY, Messages, comment
from eventmicro.generating.source import camel, identifier, snake
from eventmicro.handlers.signature import MISSING

OPTIONS = "eventmicro_schemas/v1/options.proto"
PACKAGE = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*", re.ASCII)


def write_proto(contract: object, package: str | None = None) -> str:
    """A contract as the text of a `.proto` file, which protoc takes.

    Messages of protobuf are imported from their own files; a pydantic model becomes a message, whose fields have their
    numbers in the order of the model, so that a new field belongs to the end of it. In protobuf's JSON they have the
    names that they have in the model's.

    Args:
        contract: a class with the base Contract.
        package: the package of the file; default: that of the first protobuf message, else the service's name.

    Raises:
        UsageError: it is no contract, or a type has no counterpart; it says which, and where.
    """
    promise = read_contract(contract)
    package = _package(promise) if package is None else package
    if package and not PACKAGE.fullmatch(package):
        raise UsageError(f"package {package!r}: write names with dots between, such as 'shop.v1'")
    messages = Messages(package, [promise.name])
    service = _service(promise, messages)
    if "(eventmicro.v1." in service:
        messages.imports.add(OPTIONS)
    imported = "\n".join(f'import "{file}";' for file in sorted(messages.imports))
    head = ['syntax = "proto3";', f"package {package};" if package else "", imported]
    return "\n\n".join(part for part in (*head, service, *messages.written()) if part) + "\n"


def _package(promise: Promise) -> str:
    for method in promise.methods:
        for kind in (method.request, method.reply):
            descriptor = getattr(kind, "DESCRIPTOR", None)
            if descriptor is not None and descriptor.file.package != "google.protobuf":
                return str(descriptor.file.package)
    return identifier(promise.service or snake(promise.name))


def _service(promise: Promise, messages: Messages) -> str:
    lines = [*comment(promise.description, ""), f"service {promise.name} {{"]
    own = promise.service if promise.service != snake(promise.name) else ""
    said = _said(name=own, version=promise.version)
    lines += [f"  option (eventmicro.v1.service) = {said};"] if said else []
    for method in promise.methods:
        lines += ["", *_method(promise, method, messages)]
    return "\n".join([*lines, "}"]).replace("{\n\n", "{\n")


def _method(promise: Promise, method: Method, messages: Messages) -> list[str]:
    where = f"{promise.name}.{method.attribute}"
    name = camel(method.attribute)
    request = _message(method.request, f"{where}, what it takes", messages)
    reply = _message(method.reply, f"{where}, what it returns", messages)
    takes, gives = "stream " * method.takes_stream, "stream " * method.yields
    line = f"  rpc {name}({takes}{request}) returns ({gives}{reply})"
    said = _said(name=method.name if method.name != snake(name) else "", timeout=method.timeout)
    options = [f"    option (eventmicro.v1.method) = {said};"] if said else []
    options += ["    option idempotency_level = IDEMPOTENT;"] if method.idempotent else []
    return [*comment(method.description, "  "), *([f"{line} {{", *options, "  }"] if options else [f"{line};"])]


def _message(kind: Any, where: str, messages: Messages) -> str:
    if kind is MISSING or kind is type(None):
        messages.imports.add(EMPTY)
        return ".google.protobuf.Empty"
    return messages.whole(kind, where)


def _said(**options: str | float | None) -> str:
    """Options as protobuf's text has them; empty where there are none."""
    written = [
        f'{name}: "{value}"' if isinstance(value, str) else f"{name}: {value!r}"
        for name, value in options.items()
        if value
    ]
    return f"{{{' '.join(written)}}}" if written else ""
