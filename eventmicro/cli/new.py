"""`eventmicro new` and `init`: a project to begin with, and what a project that is there lacks."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from eventmicro.cli.projects.filling import fill, fill_in, put
from eventmicro.cli.projects.finding import find_services, mentions_eventmicro
from eventmicro.cli.projects.plan import BrokerKind, Kind, check_name, plan
from eventmicro.cli.show import examples, one_line
from eventmicro.errors import UsageError

NEW_EPILOG = examples(
    "eventmicro new shop",
    "eventmicro new shop --type fnc --broker rabbitmq",
    "eventmicro new edge --type api",
    "eventmicro new shop --template gh:acme/eventmicro-template",
)
INIT_EPILOG = examples("eventmicro init", "eventmicro init --name shop --broker kafka")
# What `init` writes, of all that `new` does; of code only where there is no service yet.
LEAST = ("pyproject.toml", "eventmicro.toml", ".env.example")

Type = Annotated[
    Kind,
    typer.Option(
        "--type",
        help="srv: a service with endpoints and a subscriber; fnc: one function; api: JSON over HTTP in front of "
        "services; web: a page.",
    ),
]
Of = Annotated[BrokerKind, typer.Option("--broker", help="What its messages go over.")]


def new(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The project, its package and its service: as my_shop.")],
    type: Type = Kind.srv,
    broker: Of = BrokerKind.nats,
    folder: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Where to put it. Default: a folder of this name, here.")
    ] = None,
    template: Annotated[
        str | None,
        typer.Option(
            metavar="PLACE", help="A template of Copier of your own: a folder, or the URL of a git repository."
        ),
    ] = None,
) -> None:
    """Make a project: a service with tests that run offline, a container, CI, and what deploys it.

    It is made whole or not at all, and never over something that is there.
    """
    wanted = plan(check_name(name), type, broker)
    place = folder or Path(name)
    if place.exists() or place.is_symlink():
        raise UsageError(
            f"{place} is there already: choose another name, or --folder; `eventmicro init` in it adds to it"
        )
    put(place, lambda target: fill(target, wanted, template))
    typer.echo(f"{one_line(str(place))} is made: its README.md says what comes next", err=True)


def init(
    name: Annotated[
        str | None, typer.Option(metavar="NAME", help="The package and the service. Default: the folder's name.")
    ] = None,
    type: Type = Kind.srv,
    broker: Of = BrokerKind.nats,
) -> None:
    """Write what this folder lacks to be a project: settings, an example of the environment, and a service.

    What is there is never changed. Where there is a Service already, no code is written, and the settings name it.
    """
    here = Path.cwd()
    found = find_services(here)
    named = check_name(name or here.name, "--name")
    wanted = plan(named, type, broker, found, has_tests=(here / "tests").is_dir())
    code = () if found else (f"{wanted['name']}/", "tests/")
    for path, is_new in fill_in(here, wanted, (*LEAST, *code)):
        typer.echo(one_line(f"{'wrote' if is_new else 'kept '} {path}"), err=True)
    if not mentions_eventmicro(here / "pyproject.toml"):
        typer.echo(f"add to the dependencies in pyproject.toml: {', '.join(wanted['dependencies'])}", err=True)
