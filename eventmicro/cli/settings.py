"""Where the command line takes its settings from: the file of the folder, env files, and what stands beside a URL."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import typer

from eventmicro.cli.session import current
from eventmicro.errors import UsageError
from eventmicro.sources import (
    PREFIX,
    URLS,
    Said,
    all_said,
    as_text,
    file_in,
    find_said,
    from_env_files,
    said_url,
    use_file,
    used_file,
    variable_of,
)


def find_settings(named: str | None) -> None:
    """Find the settings file, this one or that of the current folder, and the env files it names.

    Raises:
        UsageError: a file is missing, or cannot be read.
    """
    if named is not None:
        use_file(Path(named))
    elif used_file() is None and (found := file_in(Path.cwd())) is not None:
        use_file(found)
    read_said_env_files(find_said("env_file"))


def env_files(said: Said | None) -> list[Path]:
    """The env files that are said, those of the settings file beside it."""
    if said is None:
        return []
    used = used_file()
    folder = used.parent if said.in_file and used is not None else Path()
    return [folder / each for each in as_text(said.read()).split(",")]


def read_said_env_files(said: Said | None) -> None:
    """The same as `read_env_files` for those that are said; an error says where that is."""
    try:
        read_env_files(env_files(said))
    except UsageError as error:
        raise UsageError(f"{said.where}: env_file: {error}" if said is not None else str(error)) from None


def read_env_files(files: Iterable[Path]) -> None:
    """Put what they say into the environment, for this process and those it starts.

    What is there already stays, unless it is of an env file that was read before.
    """
    for file in files:
        for name, value in env_file_values(file).items():
            if may_set(name):
                os.environ[name] = value
                from_env_files[name] = str(file)


def may_set(name: str) -> bool:
    """Whether an env file may say this variable, as the environment itself does not."""
    return name not in os.environ or name in from_env_files


def env_file_values(file: Path) -> dict[str, str]:
    """The variables of an env file.

    Raises:
        UsageError: it cannot be read, or a line of it says nothing.
    """
    try:
        from dotenv import dotenv_values
        from dotenv.parser import parse_stream
    except ModuleNotFoundError as error:
        raise UsageError(f"{file}: an env file needs {error.name}: pip install 'eventmicro[cli]'") from None
    try:
        with file.open(encoding="utf-8") as stream:
            wrong = [each.original.line for each in parse_stream(stream) if each.error]
        if wrong:
            raise UsageError(f"{file}:{wrong[0]}: write NAME=value")
        return {name: value for name, value in dotenv_values(file).items() if value is not None}
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{file}: {getattr(error, 'strerror', None) or error}") from None


def file_defaults(group: Any, name: str | None) -> dict[str, Any]:
    """What the file, and files of secrets, say of the options of a command, in the form of a default map.

    URLs are not among them, which `find_url` finds, nor env files, which are read already.

    Raises:
        UsageError: one of them is none of the words that there are; the option's own error would not say where it is.
    """
    commands = getattr(group, "commands", {})
    if name is None or name not in commands:
        return {}
    found, apart = all_said(), (*URLS, "env_file")
    named = {str(each.envvar).removeprefix(PREFIX).lower(): each.name for each in commands[name].params}
    said = {option: found[(name,)] for name, option in named.items() if (name,) in found and name not in apart}
    texts = {option: as_text(each.read()) for option, each in said.items()}
    if not texts:
        return {}
    from eventmicro.running.logs import FORMATS, LEVELS  # mostly nothing is said

    for option, known in (("log_level", LEVELS), ("log_format", FORMATS)):
        if option in texts and texts[option].lower() not in known:
            raise UsageError(f"{said[option].where}: {option}={texts[option]!r}: write {', '.join(known)}")
    return {name: texts}


def find_url(context: typer.Context, option: typer.CallbackParam, value: str | None) -> str | None:
    """A URL of the command line, or else the one that is set elsewhere, with the options that are set beside it.

    Within a shell it is the shell's, where none is typed.
    """
    name = option.name or ""
    if value and is_typed(context, name):
        _say_unused(name)
    return url_of(context, name, value)


def _say_unused(name: str) -> None:
    """Say which options of the environment stand beside another URL than the one that is typed, and are not for it."""
    unused = [each.where for path, each in all_said().items() if path[:-1] == (name,) and not each.in_file]
    if unused:
        option = f"--{name.replace('_', '-')}"
        typer.echo(
            f"eventmicro: not used with {option}: {', '.join(unused)}; write it into the URL, or set "
            f"{variable_of(name)} in place of {option}",
            err=True,
        )


def url_of(context: typer.Context, name: str, value: str | None) -> str | None:
    """The same by the option's name; of a command that has found other settings since, those."""
    if is_typed(context, name):
        return value
    return said_url(name) if current() is None else None


def is_typed(context: typer.Context, name: str) -> bool:
    """Whether an option was said on the command line, not merely in the environment or a file."""
    source = context.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


def _read_env_file(files: list[Path] | None) -> list[Path] | None:
    read_env_files(files or ())
    return files


EnvFiles = Annotated[
    list[Path] | None,
    typer.Option(
        "--env-file",
        is_eager=True,
        callback=_read_env_file,
        metavar="FILE",
        help="Variables for this process and those it starts, NAME=value a line; those of the environment go before.",
        show_default=False,
    ),
]
