"""`eventmicro run` of a whole folder: from what its settings file says to the processes."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import typer

from eventmicro.cli.processes.fleet import Plan, run_fleet
from eventmicro.cli.processes.folder import Entry, read_services
from eventmicro.cli.processes.marked import Marked
from eventmicro.cli.processes.worker import Command
from eventmicro.cli.settings import is_typed, read_said_env_files
from eventmicro.configuration.known import PROCESS, check_names
from eventmicro.embedded import STATE_VARIABLE
from eventmicro.errors import UsageError
from eventmicro.running.logs import FORMATS, LEVELS
from eventmicro.sources import PREFIX, file_in, find_said, from_env_files, use_file, used_file, variable_of


def find_folder(targets: Sequence[str]) -> Path | None:
    """The settings file whose services are to be run; None where targets are named that are code.

    Raises:
        UsageError: nothing is named, and there is no such file; or one is named beside other targets.
    """
    files = [file for target in targets if (file := _settings_file(Path(target))) is not None]
    if len(targets) > 1 and files:
        raise UsageError(f"{files[0]} is a folder's settings: run it without other targets")
    if targets:
        return files[0] if files else None
    if (used := used_file()) is None:
        raise UsageError(
            "nothing is named that is to be run: write `eventmicro run app:service`, or an eventmicro.toml with "
            '[services.orders] and target = "app:service" below it'
        )
    return used


def _settings_file(place: Path) -> Path | None:
    if place.suffix == ".toml":
        return place
    if not place.is_dir():
        return None
    if (file := file_in(place)) is None and not (place / "__init__.py").exists():
        raise UsageError(f"{place} is a folder without an eventmicro.toml: name its module or file, or write one")
    return file


def find_code(targets: Sequence[str]) -> list[str]:
    """The targets that are code: those that are named, or those of all services of a folder, which is entered.

    Raises:
        UsageError: as of `find_folder`, or the folder has no services.
    """
    if (file := find_folder(targets)) is None:
        return list(targets)
    _enter(file)
    return list(dict.fromkeys(target for entry in read_services() for target in entry.targets))


def run_folder(context: typer.Context, file: Path, only: str | None) -> int:
    """Run the services of a settings file, from its folder; the exit code."""
    _enter(file)
    entries = read_services([each.strip() for each in only.split(",")] if only else [])
    width = max(len(entry.name) for entry in entries)
    plans = [_plan(context, entry, width, number) for number, entry in enumerate(entries)]
    _check_ports(plans)
    return run_fleet(plans, reload=bool(_option(context, "reload", {})))


def _enter(file: Path) -> None:
    """Have the settings of this file, and be where it is."""
    if file.resolve() != used_file():
        use_file(file)
        read_said_env_files(find_said("env_file"))
        check_names()
    _keep_places()
    os.chdir(file.resolve().parent)


def _keep_places() -> None:
    """Have files that the environment names found from another folder, too; those of an env file are beside that."""
    for name, value in os.environ.items():
        is_place = name == STATE_VARIABLE or (name.endswith("_FILE") and name != variable_of("env_file"))
        if name.startswith(PREFIX) and is_place and value and name not in from_env_files:
            os.environ[name] = str(Path(value).absolute())


def _plan(context: typer.Context, entry: Entry, width: int, number: int) -> Plan:
    values = {name: _option(context, name, entry.process) for name in PROCESS}
    level, form = str(values["log_level"]).lower(), str(values["log_format"]).lower()
    for name, value, known in (("log_level", level, LEVELS), ("log_format", form, FORMATS)):
        if value not in known:
            raise UsageError(f"{entry.where}: services.{entry.name}.{name}={value!r}: write {', '.join(known)}")
    health = [name for name in ("health_port", "health_host") if values[name] is not None]
    ports = {variable_of(name): str(values[name]) for name in health}
    command = Command(
        entry.targets,
        context.params["broker"] if is_typed(context, "broker") else None,
        level,
        form,
        values["workers"],
        service=entry.name,
        variables={"PYTHONUNBUFFERED": "1", **entry.variables, **ports},
        output=None if form == "json" else Marked(entry.name, width, number),
    )
    return Plan(command, entry.after, entry.restart)


def _option(context: typer.Context, name: str, process: Any) -> Any:
    """An option of a process: as it was typed, or set for the service, or for all."""
    if not is_typed(context, name) and name in process:
        return process[name]
    value = context.params[name]
    return getattr(value, "value", value)


def _check_ports(plans: Sequence[Plan]) -> None:
    """Refuse a health port that several processes would have."""
    health_port = variable_of("health_port")
    taken: dict[str, str] = {}
    for plan in plans:
        port = plan.command.variables.get(health_port)
        if port in (None, "0"):
            continue
        if plan.command.workers > 1:
            raise UsageError(f"{plan.name}: health_port is one port, and workers are several: leave out one of them")
        if (other := taken.setdefault(port, plan.name)) is not plan.name:
            raise UsageError(
                f"health_port={port} is one port, and {other} and {plan.name} are two processes: set it for each"
            )
