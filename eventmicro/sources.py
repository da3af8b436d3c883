"""What is said outside of the code: in the environment, in files with secrets, in the settings file.

A setting has a path. `("services", "orders", "timeout")` is `EVENTMICRO_SERVICES__ORDERS__TIMEOUT` in the environment,
and `timeout` in the table `[services.orders]` of the file; what the environment says goes before. A name with `_FILE`
behind it says in which file the value is.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, MutableMapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eventmicro.errors import UsageError

if TYPE_CHECKING:
    from eventmicro.tomlfile import Entry

PREFIX = "EVENTMICRO_"
NESTED = "__"
SERVICES = "services"
# What is said below a service for its handlers, by their names.
HANDLERS = "handlers"
# The table of a service in the file with variables for its process, which are no settings.
ENVIRONMENT = "environment"
# The settings that are URLs; what their adapters know can be set beside them.
URLS = ("broker", "rpc_broker", "registry")
FILE_VARIABLE = "EVENTMICRO_CONFIG"
FILE_NAME = "eventmicro.toml"
PROJECT_NAME = "pyproject.toml"
IN_PROJECT = ("tool", "eventmicro")

Keys = tuple[str, ...]
# Where variables were said that an env file has put into the environment.
from_env_files: dict[str, str] = {}


@dataclass(frozen=True, slots=True)
class Said:
    """What is said of one setting, and where."""

    path: Keys
    value: Any = field(repr=False)
    """Text in the environment; in the file also a number, a truth or a list. With `is_secret` the path of a file."""
    where: str
    """The variable, or the file and the line."""
    in_file: bool = False
    is_secret: bool = False

    def read(self) -> Any:
        """The value, from the file in which it is.

        Raises:
            UsageError: that cannot be read.
        """
        if not self.is_secret:
            return self.value
        try:
            return (self._folder() / self.value).read_text(encoding="utf-8").rstrip("\r\n")
        except (OSError, UnicodeDecodeError, TypeError) as error:
            raise UsageError(f"{self.where}: {error}") from None

    def _folder(self) -> Path:
        used = used_file()
        return used.parent if self.in_file and used is not None else Path()

    @property
    def shown(self) -> str:
        """The value for an error, which shows nothing of a file of secrets."""
        return "what is in the file" if self.is_secret else repr(self.value)


def all_said() -> dict[Keys, Said]:
    """All that is said, by its path.

    Raises:
        UsageError: the file that `EVENTMICRO_CONFIG` names is none, or a value is said twice in one place.
    """
    return {**_once(_in_file()), **_once(_in_environment())}


def is_anything_said() -> bool:
    """Whether there is anything to look for, as mostly there is not."""
    return any(name.startswith(PREFIX) for name in os.environ)


def find_said(*path: str) -> Said | None:
    """What is said of one setting, if anything is."""
    return all_said().get(path)


def said_text(*path: str) -> str | None:
    """The same as a text."""
    said = find_said(*path)
    return None if said is None else as_text(said.read())


def as_text(value: Any) -> str:
    """A value of the file as it would be written in the environment."""
    if isinstance(value, bool):
        return str(value).lower()
    return ",".join(map(as_text, value)) if isinstance(value, list) else str(value)


def said_url(*path: str, found: Mapping[Keys, Said] | None = None) -> str | None:
    """The URL of a broker or a registry, with those of its options behind it that are said beside it.

    What a file says of options goes with a URL of that file.

    Args:
        path: of which setting.
        found: all that is said, if it is known.

    Raises:
        UsageError: there are options, and no URL.
    """
    found = all_said() if found is None else found
    options = [each for at, each in found.items() if at[:-1] == path]
    base = found.get(path)
    if base is None:
        if options:
            raise UsageError(f"{options[0].where} is for a URL that is not set: set {variable_of(*path)}")
        return None
    pairs = [each for each in options if base.in_file or not each.in_file]
    return _with_options(as_text(base.read()), pairs)


def said_beside(name: str) -> str:
    """Where an option of a URL is said beside it, `eventmicro.toml:3: `; nothing where it is in the URL."""
    said = [each.where for at, each in all_said().items() if at[-1] == name and at[-2:-1] and at[-2] in URLS]
    return f"{', '.join(said)}: " if said else ""


def _with_options(base: str, options: list[Said]) -> str:
    if not options:
        return base
    from urllib.parse import quote  # for those who say more than a URL

    said = {each.path[-1]: quote(as_text(each.read()), safe="*") for each in options}
    base = _logged_in(base if "://" in base else f"{base}://", said)
    pairs = "&".join(f"{name}={text}" for name, text in said.items())
    return f"{base}{'&' if '?' in base else '?'}{pairs}" if pairs else base


def _logged_in(base: str, said: dict[str, str]) -> str:
    """The URL with the user, password or token among the options in the place that URLs have for them."""
    scheme, _, rest = base.partition("://")
    address, question, pairs = rest.partition("?")
    before, _, hosts = address.rpartition("@")
    user, colon, password = before.partition(":")
    user = said.pop("user", said.pop("token", user))
    if "password" in said:
        colon, password = ":", said.pop("password")
    login = f"{user}{colon}{password}@" if user or colon else ""
    return f"{scheme}://{login}{hosts}{question}{pairs}"


def variable_of(*path: str) -> str:
    """The variable of a setting."""
    return PREFIX + NESTED.join(path).upper().replace("-", "_")


def say(variable: str, value: str, environment: MutableMapping[str, str] = os.environ) -> None:
    """Set a variable in place of all that this environment says of it: by a file of secrets, or beside a URL."""
    for name in list(environment):
        if name == f"{variable}_FILE" or name.startswith(variable + NESTED):
            environment[name] = ""  # it says nothing, and no env file says it again
    environment[variable] = value


def service_path(name: str) -> Keys:
    """The path of what is said for one service; in variables `-` is `_`, and there are only capitals."""
    return (SERVICES, *name_path(name))


def name_path(name: str) -> Keys:
    """The part of a path by which a service or a handler is named."""
    return tuple(name.lower().replace("-", "_").split(NESTED))


def use_file(path: Path) -> None:
    """Have this process, and those that it starts, read this settings file."""
    os.environ[FILE_VARIABLE] = str(path.resolve())


def file_in(folder: Path) -> Path | None:
    """The settings file of a folder: `eventmicro.toml`, or a pyproject.toml that has `[tool.eventmicro]`."""
    if (own := folder / FILE_NAME).is_file():
        return own
    project = folder / PROJECT_NAME
    if not project.is_file() or ".".join(IN_PROJECT) not in project.read_text(encoding="utf-8", errors="replace"):
        return None
    return project if _read(str(project)) else None


def used_file() -> Path | None:
    """The settings file that this process reads, if there is one."""
    named = os.environ.get(FILE_VARIABLE)
    return Path(named) if named else None


def entries() -> list[Entry]:
    """What the settings file says, with the line of each key; nothing where there is none."""
    used = used_file()
    return _read(str(used)) if used else []


@cache
def _read(path: str) -> list[Entry]:
    from eventmicro.tomlfile import read_toml  # for those who have a file

    is_project = Path(path).name == PROJECT_NAME
    return read_toml(Path(path), IN_PROJECT if is_project else ())


def _in_file() -> Iterator[Said]:
    used = used_file()
    for entry in entries():
        if entry.value != {} and entry.keys[2:3] != (ENVIRONMENT,):
            yield _said(_path_in_file(entry.keys), entry.value, f"{used and used.name}:{entry.line}", in_file=True)


def _path_in_file(keys: Keys) -> Keys:
    plain = tuple(key.replace("-", "_") for key in keys)
    if len(keys) < 2 or keys[0] != SERVICES:
        return plain
    if len(keys) > 3 and keys[2] == HANDLERS:
        return (*service_path(keys[1]), HANDLERS, *name_path(keys[3]), *plain[4:])
    return (*service_path(keys[1]), *plain[2:])


def _in_environment() -> Iterator[Said]:
    for name, value in os.environ.items():
        if name.startswith(PREFIX) and value and name != FILE_VARIABLE:
            where = f"{name} in {from_env_files[name]}" if name in from_env_files else name
            yield _said(tuple(name.removeprefix(PREFIX).lower().split(NESTED)), value, where)


def _said(path: Keys, value: Any, where: str, *, in_file: bool = False) -> Said:
    *above, last = path
    is_secret = last.endswith("_file") and last != "env_file"
    path = (*above, last.removesuffix("_file") if is_secret else last)
    if path[-1] == "url" and path[-2:-1] and path[-2] in URLS:  # as it is written in a table of its options
        path = path[:-1]
    return Said(path, value, where, in_file, is_secret)


def _once(several: Iterator[Said]) -> dict[Keys, Said]:
    found: dict[Keys, Said] = {}
    for said in several:
        if (other := found.setdefault(said.path, said)) is not said:
            raise UsageError(f"{other.where} and {said.where} set the same: leave out one of them")
    return found
