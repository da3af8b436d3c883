"""Targets of commands: `module:service`, `module` or `path/to/file.py:service`, and what is there."""

from __future__ import annotations

import importlib
import importlib.util
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any

from eventmicro.checks import did_you_mean
from eventmicro.configuration.words import WrongSetting
from eventmicro.contracts.contract import is_contract
from eventmicro.errors import UsageError
from eventmicro.running.runner import IMPORTING
from eventmicro.service import Service
from eventmicro.sources import SERVICES, as_text, entries
from eventmicro.topic import Topic

log = logging.getLogger("eventmicro.run")

_PACKAGE = str(Path(__file__).parent.parent)


class BrokenModule(Exception):
    """The user's module raised while it was imported; the cause is what it raised, with the user's frames only."""


def log_broken(targets: Sequence[str], broken: BrokenModule) -> None:
    """Say what is wrong with a module, with its traceback; at once, with its line, where it misuses eventmicro."""
    cause = broken.__cause__
    why = f": {_line_of(cause)}{cause}" if isinstance(cause, UsageError) else ""
    log.error("cannot import %s%s", ", ".join(targets), why, exc_info=cause)


def _line_of(error: Exception) -> str:
    """The last line of the traceback: `app.py:7: `."""
    frame = error.__traceback__
    while frame is not None and frame.tb_next is not None:
        frame = frame.tb_next
    return "" if frame is None else f"{Path(frame.tb_frame.f_code.co_filename).name}:{frame.tb_lineno}: "


def load_services(targets: Sequence[str]) -> list[Service]:
    """The services of all targets, each once.

    Raises:
        UsageError: there is no such module or no such service; the message says what is there.
        BrokenModule: a module raised while it was imported.
        WrongSetting: what is said outside of the code is wrong.
    """
    _look_here()
    importing = IMPORTING.set(True)
    try:
        found = list(dict.fromkeys(service for target in targets for service in _load(target)))
    finally:
        IMPORTING.reset(importing)
    for service in found:
        service.check_settings()
    return found


def topics_of(targets: list[str]) -> list[Topic[object]]:
    """The topics at the top of the modules of targets that are loaded, each once by its name."""
    _look_here()
    places = [_split(target)[0] for target in targets]
    modules = [_load_module(place, place) for place in places]
    found = [value for module in modules for value in vars(module).values() if isinstance(value, Topic)]
    return list({topic.name: topic for topic in found}.values())


def folders(targets: list[str]) -> list[Path]:
    """The folders whose code the targets run: the current one, and those of files elsewhere."""
    files = [Path(_split(target)[0]).resolve().parent for target in targets if _is_file(_split(target)[0])]
    here = Path.cwd()
    return [here, *dict.fromkeys(f for f in files if not f.is_relative_to(here))]


def load_contract(target: str) -> Any:
    """The contract of a target, `module:Orders` or `path/to/file.py:Orders`.

    Raises:
        UsageError: there is no such module, or no such contract; the message says which are there.
        BrokenModule: the module raised while it was imported.
    """
    _look_here()
    place, attribute = _split(target)
    module = _load_module(place, target)
    found = {name: value for name, value in vars(module).items() if is_contract(value)}
    if attribute not in found and (attribute or len(found) != 1):
        wanted = f"no contract {attribute!r}" if attribute else "not one contract"
        there = f"its contracts: {', '.join(found) or 'none'}{did_you_mean(attribute, list(found))}"
        raise UsageError(f"{place} has {wanted}; {there}")
    return found[attribute] if attribute else next(iter(found.values()))


def _look_here() -> None:
    if "" not in sys.path and str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))


def _load_module(place: str, target: str) -> ModuleType:
    if not place:
        raise UsageError(f"target {target!r}: write 'module:service', 'module' or 'path/to/file.py'")
    return _import_file(Path(place)) if _is_file(place) else _import(place)


def _load(target: str) -> list[Service]:
    place, attribute = _split(target)
    module = _load_module(place, target)
    found = {name: value for name, value in vars(module).items() if isinstance(value, Service)}
    if not found:
        mend = _of_the_file(place) or "; write `service = Service('name')` at the top level of it"
        raise UsageError(f"{place} has no Service object{mend}")
    if not attribute:
        return list(found.values())
    if attribute not in found:
        raise UsageError(_no_service(module, place, attribute, list(found)))
    return [found[attribute]]


def _split(target: str) -> tuple[str, str]:
    place, _, attribute = target.partition(":")
    return place, attribute


def _is_file(place: str) -> bool:
    return place.endswith(".py") or os.sep in place


def _no_service(module: ModuleType, place: str, attribute: str, found: list[str]) -> str:
    here = f"its Service objects: {', '.join(found)}"
    if hasattr(module, attribute):
        value = getattr(module, attribute)
        kind = "class" if isinstance(value, type) else type(value).__name__
        return f"{place}:{attribute} is no Service but a {kind}; {here}"
    return f"{place} has no {attribute!r}; {here}{did_you_mean(attribute, found)}"


def _of_the_file(name: str) -> str:
    """Which target the settings file has for a service of this name, to be put behind an error; else empty."""
    meant = [each.value for each in entries() if each.keys == (SERVICES, name, "target")]
    return f"; the service {name!r} of the settings file is {as_text(meant[0])}" if meant else ""


def _above(name: str) -> str:
    """In which folder above this one a module is, to be put behind an error; else empty."""
    place = Path(*name.split("."))
    there = next((each for each in Path.cwd().parents if (each / place.with_suffix(".py")).is_file()), None)
    return f"; it is there from {there}: install that, or have it in PYTHONPATH" if there is not None else ""


def _import(name: str) -> ModuleType:
    if name.startswith("."):
        raise UsageError(f"{name!r} is no module's name; write 'package.module:service'")
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise _broken(error) from error
        modules = [
            path.stem for path in Path.cwd().iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()
        ]
        mend = _of_the_file(name) or _above(name) or did_you_mean(name, modules)
        raise UsageError(f"cannot import {name!r}: {error}, looked for from {Path.cwd()}{mend}") from None
    except WrongSetting:
        raise
    except Exception as error:
        raise _broken(error) from error


def _import_file(path: Path) -> ModuleType:
    """Import a file as `python path/to/file.py` would see it: its folder comes first on the path."""
    path = path.resolve()
    if not path.is_file():
        siblings = [other.name for other in path.parent.glob("*.py")] if path.parent.is_dir() else []
        raise UsageError(f"there is no file {path}{did_you_mean(path.name, siblings)}")
    loaded = sys.modules.get(path.stem)
    if loaded is not None and getattr(loaded, "__file__", None) == str(path):
        return loaded
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if loaded is not None or spec is None or spec.loader is None:
        raise UsageError(f"{path} cannot be imported as {path.stem!r}, which is another module's name; rename the file")
    sys.path.insert(0, str(path.parent))
    module = sys.modules[path.stem] = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[path.stem]
        if isinstance(error, WrongSetting):
            raise
        raise _broken(error) from error
    return module


def _broken(error: Exception) -> BrokenModule:
    """Cut our own frames and importlib's off the traceback: the user reads from the first line of user code."""
    frame: TracebackType | None = error.__traceback__
    while frame is not None and _is_ours(frame.tb_frame.f_code.co_filename):
        frame = frame.tb_next
    error.__traceback__ = frame
    if isinstance(error, UsageError):  # it is said in words, and how it was found is of no interest
        _end_with_the_user(frame)
    return BrokenModule(f"{type(error).__name__}: {error}")


def _end_with_the_user(frame: TracebackType | None) -> None:
    """Cut off what follows behind the last line of user code."""
    last: TracebackType | None = None
    while frame is not None:
        if not frame.tb_frame.f_code.co_filename.startswith((_PACKAGE, "<")):
            last = frame
        frame = frame.tb_next
    if last is not None:
        last.tb_next = None


def _is_ours(file: str) -> bool:
    return file in (__file__, importlib.__file__) or file.startswith("<frozen importlib")
