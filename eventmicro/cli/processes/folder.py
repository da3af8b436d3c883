"""The services of a settings file: what is run of each, in which order, and how its process is set up."""

from __future__ import annotations

import logging
import os
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

from eventmicro.checks import did_you_mean
from eventmicro.cli.settings import env_file_values, env_files, may_set
from eventmicro.configuration.known import PROCESS, RUN, SERVICE, Options, services_said
from eventmicro.errors import UsageError
from eventmicro.sources import (
    ENVIRONMENT,
    FILE_NAME,
    HANDLERS,
    NESTED,
    SERVICES,
    Keys,
    all_said,
    as_text,
    entries,
    find_said,
    from_env_files,
    service_path,
    used_file,
)

if TYPE_CHECKING:
    from eventmicro.tomlfile import Entry as FileEntry

log = logging.getLogger("eventmicro.run")

RESTARTS = ("on-failure", "always", "no")


@dataclass(frozen=True, slots=True)
class Entry:
    """A service of the file, `[services.orders]`."""

    name: str
    where: str
    targets: tuple[str, ...]
    after: tuple[str, ...]
    restart: Literal["on-failure", "always", "no"]
    process: Mapping[str, Any]
    """What is set of the options of its process: `workers`, `log_level` …"""
    variables: Mapping[str, str]
    """What its process gets into its environment."""


def read_services(only: Collection[str] = ()) -> list[Entry]:
    """The services of the settings file, those before that others are started after.

    Args:
        only: the names of those that are wanted; default: all.

    Raises:
        UsageError: there are none, or one has no target, or is named that is not there, or they wait for each other.
    """
    lines = {each.keys[1]: each.line for each in reversed(entries()) if _is_service(each.keys)}
    file = used_file() or Path(FILE_NAME)
    if not lines:
        raise UsageError(f'{file.name} has no services: write [services.orders], and target = "app:service" below it')
    found = {name: _read(name, f"{file.name}:{lines[name]}") for name in sorted(lines, key=lambda name: lines[name])}
    for name in only:
        if name not in found:
            raise UsageError(
                f"{file.name} has no service {name!r}: it has {', '.join(found)}{did_you_mean(name, found)}"
            )
    return [found[name] for name in _in_order(found) if not only or name in only]


def _is_service(keys: Keys) -> bool:
    return len(keys) > 1 and keys[0] == SERVICES


def _read(name: str, where: str) -> Entry:
    run = _options(name, RUN)
    if not run.get("target"):
        raise UsageError(f'{where}: [services.{name}] has no target: write target = "module:service"')
    restart = run.get("restart", RESTARTS[0])
    if restart not in RESTARTS:
        raise UsageError(f"{where}: services.{name}.restart={restart!r}: write {', '.join(RESTARTS)}")
    process = _options(name, PROCESS)
    after = tuple(run.get("after", ()))
    return Entry(name, where, tuple(run["target"]), after, cast("Any", restart), process, _variables(name))


def _options(name: str, options: Options) -> dict[str, Any]:
    found = all_said()
    path = service_path(name)
    said = {option: found[*path, option] for option in options if (*path, option) in found}
    return {option: cast("Any", options[option])(each) for option, each in said.items()}


def _variables(name: str) -> dict[str, str]:
    return {key: value for key, (value, _) in _placed_variables(name).items()}


def _placed_variables(name: str) -> dict[str, tuple[str, str]]:
    """Those of its env files that the environment does not have, and those that are written in the file itself, each
    with its place."""
    found: dict[str, tuple[str, str]] = {}
    said = find_said(*service_path(name), "env_file")
    for file in env_files(said):
        try:
            values = env_file_values(file)
        except UsageError as error:
            raise UsageError(f"{said and said.where}: env_file: {error}") from None
        found |= {key: (value, str(file)) for key, value in values.items() if may_set(key)}
    for entry in environment_entries():
        if entry.keys[1] == name:
            found[entry.keys[3]] = as_text(entry.value), place_of(entry)
    return found


def environment_entries() -> Iterator[FileEntry]:
    """What the file says below `[services.orders.environment]`, of all services.

    Raises:
        UsageError: it is no table of texts.
    """
    for each in entries():
        if each.keys[:3:2] != (SERVICES, ENVIRONMENT) or each.value == {}:
            continue
        if len(each.keys) != 4 or isinstance(each.value, list):
            where = f"{place_of(each)}: {'.'.join(each.keys[:3])}"
            raise UsageError(f'{where}: write a table of variables, environment = {{ NAME = "value" }}')
        yield each


def place_of(entry: FileEntry) -> str:
    """The settings file and the line."""
    return f"{(used_file() or Path(FILE_NAME)).name}:{entry.line}"


@contextmanager
def as_in_its_process(service: str) -> Iterator[None]:
    """Within it the environment is that of the process in which a run of the folder has this service."""
    path, environment, files = service_path(service), dict(os.environ), dict(from_env_files)
    for name in {each.keys[1] for each in entries() if _is_service(each.keys) and service_path(each.keys[1]) == path}:
        for variable, (value, place) in _placed_variables(name).items():
            os.environ[variable] = value
            from_env_files[variable] = f"{place}, where the folder is run"
    try:
        yield
    finally:
        for there, before in ((os.environ, environment), (from_env_files, files)):
            there.clear()
            there.update(before)


def _in_order(found: Mapping[str, Entry]) -> list[str]:
    for entry in found.values():
        for other in entry.after:
            if other not in found:
                raise UsageError(
                    f"{entry.where}: {entry.name} is to start after {other!r}, which is no service of this file"
                    f"{did_you_mean(other, found)}"
                )
    try:
        return list(TopologicalSorter({name: found[name].after for name in found}).static_order())
    except CycleError as error:
        circle = " after ".join(reversed(error.args[1]))
        raise UsageError(f"{found[error.args[1][0]].where}: {circle}: none of them could start first") from None


def check_is_there(service: str, names: Collection[str]) -> None:
    """Refuse what a settings file says of a service that is not run by the name that it has there.

    Raises:
        UsageError: naming what is said for nothing.
    """
    path = service_path(service)
    if any(service_path(name) == path for name in names):
        return
    for at, said in all_said().items():
        if at[: len(path)] == path and at[len(path)] in (*SERVICE, HANDLERS):
            raise UsageError(
                f"{said.where}: {at[len(path)]!r} is for a service named {service!r}, and its target has "
                f"{', '.join(names)}: name the table as the service{did_you_mean(service, names)}"
            )


def warn_of_misspelt(names: Collection[str]) -> None:
    """Say what is set for a service that is not run here, and is named nearly as one of these: perhaps it is meant.

    It may be for one that runs elsewhere, in the same environment; so it is not refused.
    """
    here = {service_path(name) for name in (*names, *(each.keys[1] for each in entries() if _is_service(each.keys)))}
    for name, said in services_said().items():
        if service_path(name) not in here and (meant := did_you_mean(name, [*map(_as_variable, names)])):
            log.warning("%s: no service %r runs here%s", said.where, name, meant)


def _as_variable(name: str) -> str:
    return NESTED.join(service_path(name)[1:])
