"""protoc-gen-eventmicro: protoc's plugin, that writes `orders_contracts.py` beside what protoc makes of `orders.proto`.

It reads a CodeGeneratorRequest from standard input and writes the response to standard output, as protoc has it.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.compiler import plugin_pb2

from eventmicro.errors import UsageError
from eventmicro.generating.source import (
    WrittenContract,
    WrittenMethod,
    docstring,
    identifier,
    imports,
    snake,
    write_contract,
    write_module,
)
from eventmicro.wire import check_length, check_name, check_version

# Where in a file's descriptor its services stand, and in a service's its methods: the paths of comments.
SERVICES, METHODS = 6, 2
SERVICE_OPTIONS, METHOD_OPTIONS = "eventmicro.v1.service", "eventmicro.v1.method"
# What a contract's module imports, so that no service may have this name in it.
OWN_NAMES = {"AsyncIterator", "Contract", "Protocol"}


def main() -> None:
    """Answer one request of protoc."""
    request = plugin_pb2.CodeGeneratorRequest.FromString(sys.stdin.buffer.read())
    sys.stdout.buffer.write(answer(request).SerializeToString())


def answer(request: plugin_pb2.CodeGeneratorRequest) -> plugin_pb2.CodeGeneratorResponse:
    """A module with contracts for each file that has services; what cannot be written is said in `error`."""
    features = plugin_pb2.CodeGeneratorResponse.Feature
    response = plugin_pb2.CodeGeneratorResponse(
        supported_features=features.FEATURE_PROTO3_OPTIONAL | features.FEATURE_SUPPORTS_EDITIONS,
        minimum_edition=descriptor_pb2.Edition.EDITION_PROTO2,
        maximum_edition=descriptor_pb2.Edition.EDITION_2024,
    )
    files = Files(request.proto_file)
    try:
        for name in request.file_to_generate:
            if files.by_name[name].service:
                made = response.file.add(name=module_path(name, "_contracts"))
                made.content = contracts_of(files, files.by_name[name])
    except UsageError as error:
        del response.file[:]
        response.error = str(error)
    return response


def module_path(proto: str, ending: str) -> str:
    """Where protoc for Python puts what it makes of a file."""
    return proto.removesuffix(".proto").replace("-", "_") + f"{ending}.py"


class Files:
    """The files of a request: which one has which message, and what their options say."""

    def __init__(self, files: Any) -> None:
        self.by_name: dict[str, Any] = {file.name: file for file in files}
        self.of_message: dict[str, Any] = {}
        for file in files:
            package = f".{file.package}" if file.package else ""
            for name in _names(file.message_type, package):
                self.of_message[name] = file
        self._pool = descriptor_pool.DescriptorPool()
        for file in files:
            self._pool.Add(file)

    def options(self, given: Any, extension: str) -> Any:
        """What is said of a service or a method by an extension of ours; None: nothing."""
        try:
            field = self._pool.FindExtensionByName(extension)
            kind = self._pool.FindMessageTypeByName(given.DESCRIPTOR.full_name)
        except KeyError:  # nobody imports it
            return None
        options: Any = message_factory.GetMessageClass(kind).FromString(given.SerializeToString())
        return options.Extensions[field] if options.HasExtension(field) else None


def _names(messages: Any, prefix: str) -> Iterator[str]:
    for message in messages:
        yield f"{prefix}.{message.name}"
        yield from _names(message.nested_type, f"{prefix}.{message.name}")


def contracts_of(files: Files, file: Any) -> str:
    """The module with the contracts of a file."""
    comments = {tuple(each.path): each for each in file.source_code_info.location}
    modules = _Modules(files)
    contracts = [
        _contract(files, modules, file, service, comments, (SERVICES, number))
        for number, service in enumerate(file.service)
    ]
    head = docstring(f"The contracts of {file.name}, written by protoc-gen-eventmicro: do not edit.", "")
    start = f"{head}\n\n{imports(contracts, others=modules.lines())}"
    return write_module(start, *map(write_contract, contracts))


class _Modules:
    """The modules in which protoc puts messages, as far as they are used, each under a name of its own."""

    def __init__(self, files: Files) -> None:
        self._files = files
        self._names: dict[str, str] = {}

    def annotation(self, message: str) -> str:
        """How a message is written, `.shop.v1.Order` as `orders_pb2.Order`."""
        file = self._files.of_message[message]
        module = module_path(file.name, "_pb2").removesuffix(".py").replace("/", ".")
        inside = message.removeprefix(f".{file.package}." if file.package else ".")
        for part in (*module.split("."), *inside.split(".")):
            if identifier(part) != part:
                raise UsageError(f"{file.name}: {part!r} of {message[1:]} is no name in Python; give it another one")
        return f"{self._name(module)}.{inside}"

    def _name(self, module: str) -> str:
        if module not in self._names:
            last = module.rpartition(".")[2]
            taken = last in self._names.values()
            self._names[module] = module.replace(".", "_") if taken else last
        return self._names[module]

    def lines(self) -> list[str]:
        """The imports."""
        return [_import(module, name) for module, name in self._names.items()]


def _import(module: str, name: str) -> str:
    package, _, last = module.rpartition(".")
    named = "" if name == last else f" as {name}"
    return f"from {package} import {last}{named}" if package else f"import {last}{named}"


def _contract(
    files: Files, modules: _Modules, file: Any, service: Any, comments: dict[Any, Any], path: tuple[int, int]
) -> WrittenContract:
    said = files.options(service.options, SERVICE_OPTIONS)
    name = said.name if said is not None and said.name else snake(service.name)
    version = said.version if said is not None else ""
    where = _where(file, comments, path, service.name)
    methods = tuple(
        _method(files, modules, file, method, comments, (*path, METHODS, number))
        for number, method in enumerate(service.method)
    )
    with_checked = _checked(where, check_name, name, "service")
    _checked(where, check_length, with_checked, "service name")
    if version:
        _checked(where, check_version, version)
    own = f"{service.name}Service" if service.name in OWN_NAMES else service.name
    return WrittenContract(identifier(own), name, version, methods, _comment(comments, path))


def _method(
    files: Files, modules: _Modules, file: Any, method: Any, comments: dict[Any, Any], path: tuple[int, ...]
) -> WrittenMethod:
    said = files.options(method.options, METHOD_OPTIONS)
    name = said.name if said is not None and said.name else snake(method.name)
    _checked(_where(file, comments, path, method.name), check_name, name, "endpoint")
    harmless = method.options.idempotency_level != method.options.IDEMPOTENCY_UNKNOWN
    return WrittenMethod(
        snake(method.name),
        name,
        modules.annotation(method.input_type),
        modules.annotation(method.output_type),
        method.client_streaming,
        method.server_streaming,
        said.timeout if said is not None and said.timeout else None,
        harmless or (said is not None and said.idempotent),
        _comment(comments, path),
    )


def _comment(comments: dict[Any, Any], path: tuple[int, ...]) -> str:
    """What stands above something, or behind it, without the indentation of a comment."""
    found = comments.get(path)
    if found is None:
        return ""
    text = found.leading_comments or found.trailing_comments
    lines = [line.removeprefix(" ").rstrip() for line in text.splitlines()]
    return "\n".join(lines).strip()


def _where(file: Any, comments: dict[Any, Any], path: tuple[int, ...], name: str) -> str:
    """File, line and name, as protoc writes them."""
    found = comments.get(path)
    return f"{file.name}:{found.span[0] + 1}:{found.span[1] + 1}: {name}" if found is not None else file.name


def _checked(where: str, check: Any, *arguments: Any) -> Any:
    try:
        return check(*arguments)
    except UsageError as error:
        raise UsageError(f"{where}: {error}") from None


if __name__ == "__main__":
    main()
