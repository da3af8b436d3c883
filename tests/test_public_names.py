"""What `import eventmicro` gives, and what it does not load."""

from __future__ import annotations

import subprocess
import sys

import eventmicro_schemas
import pytest

import eventmicro

PACKAGES = [eventmicro, eventmicro_schemas]


@pytest.mark.parametrize("package", PACKAGES, ids=lambda package: package.__name__)
def test_all_public_names_are_listed_in_order(package: object) -> None:
    names = package.__all__  # type: ignore[attr-defined]
    assert names == sorted(names)
    assert len(names) == len(set(names))
    for name in names:
        assert getattr(package, name) is not None


def test_every_public_name_has_a_docstring() -> None:
    without = [name for name in eventmicro.__all__ if not getattr(getattr(eventmicro, name), "__doc__", None)]
    assert [name for name in without if name not in ("Handler", "Middleware")] == []


def test_whatever_is_imported_into_the_package_is_public() -> None:
    from types import ModuleType

    for name in eventmicro.__all__:  # some are imported when they are asked for
        getattr(eventmicro, name)
    here = {name for name, value in vars(eventmicro).items() if not name.startswith("_")}
    modules = {name for name, value in vars(eventmicro).items() if isinstance(value, ModuleType)}
    assert here - modules - {"annotations"} == set(eventmicro.__all__) - {n for n in eventmicro.__all__ if n in modules}


def test_every_error_can_be_imported_from_the_package() -> None:
    from eventmicro import errors

    kinds = {n for n, v in vars(errors).items() if isinstance(v, type) and issubclass(v, errors.EventMicroError)}
    assert kinds <= set(eventmicro.__all__)


HEAVY = ["nats", "eventmicro_nats", "typer", "rich", "click", "watchfiles", "uvloop", "google.protobuf", "grpc"]
COMMAND_LINE = ["eventmicro.cli", "eventmicro.running.runner", "eventmicro.conformance"]
# What is loaded when a service starts, or when somebody asks for it by its name.
LATER = [
    "eventmicro.running.node",
    "eventmicro.events.letters",
    "eventmicro.memory",
    "eventmicro.events.cloudevents",
    "eventmicro.sync.client",
    "eventmicro.service",
    "eventmicro.contracts.contract",
    "eventmicro.handlers.signature",
    "uuid",
]


def loaded(statement: str) -> set[str]:
    """The names of the modules that are loaded after a statement in a process of its own."""
    code = f"{statement}\nimport sys\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    return set(done.stdout.split())


def test_import_loads_no_broker_no_command_line_and_no_protobuf() -> None:
    assert loaded("import eventmicro") & {*HEAVY, *COMMAND_LINE, *LATER} == set()


def test_a_memory_broker_is_opened_without_any_of_them() -> None:
    statement = "from eventmicro import Client; Client('memory://')"
    assert loaded(statement) & {*HEAVY, *COMMAND_LINE} == set()


def test_nothing_of_streams_is_loaded_but_the_name_of_what_a_user_holds() -> None:
    streams = {name for name in loaded("import eventmicro") if name.startswith("eventmicro.rpc.streams.")}
    assert streams == {"eventmicro.rpc.streams.opens", "eventmicro.rpc.streams.stream"}


def test_a_name_that_is_loaded_later_is_there_and_any_other_is_none() -> None:
    assert "eventmicro.sync.client" in loaded("from eventmicro import SyncClient")
    with pytest.raises(AttributeError, match="has no attribute 'SyncClients'"):
        eventmicro.SyncClients  # type: ignore[attr-defined]
