"""`eventmicro run`: services as a process, as several, those of a whole folder, or anew whenever the code changes."""

from __future__ import annotations

import sys

import typer

from eventmicro.cli.processes import options
from eventmicro.cli.processes.here import run_here
from eventmicro.cli.processes.link import Link
from eventmicro.cli.processes.options import HEALTH_HOST_VARIABLE, HEALTH_PORT_VARIABLE, Format, Level
from eventmicro.cli.processes.running import find_folder, run_folder
from eventmicro.cli.processes.supervisor import run_reloading, run_workers
from eventmicro.cli.processes.worker import Command
from eventmicro.cli.settings import EnvFiles, is_typed
from eventmicro.cli.show import examples
from eventmicro.discovery.registering import INTERVAL_VARIABLE, TTL_VARIABLE
from eventmicro.errors import UsageError
from eventmicro.plugins import REGISTRY_VARIABLE, RPC_BROKER_VARIABLE, check_registry
from eventmicro.running.logs import set_up
from eventmicro.sources import say

EPILOG = examples(
    "eventmicro run app:service",
    "eventmicro run app.py --reload",
    "eventmicro run",
    "eventmicro run shop.orders shop.billing:service --workers 4 --broker nats://127.0.0.1:4222",
)
# The options that workers are told by a variable.
HANDED_ON = {
    "rpc_broker": RPC_BROKER_VARIABLE,
    "registry": REGISTRY_VARIABLE,
    "register_ttl": TTL_VARIABLE,
    "register_interval": INTERVAL_VARIABLE,
    "health_port": HEALTH_PORT_VARIABLE,
    "health_host": HEALTH_HOST_VARIABLE,
}


def run(
    context: typer.Context,
    targets: options.Targets = None,
    broker: options.Broker = None,
    rpc_broker: options.RpcBroker = None,
    reload: options.Reload = False,
    workers: options.Workers = 1,
    registry: options.Registry = None,
    register_ttl: options.RegisterTtl = None,
    register_interval: options.RegisterInterval = None,
    health_port: options.HealthPort = None,
    health_host: options.HealthHost = "127.0.0.1",
    log_level: options.LogLevel = Level.info,
    log_format: options.LogFormat = Format.text,
    env_file: EnvFiles = None,
    only: options.Only = None,
) -> None:
    """Run services.

    Ctrl-C, SIGTERM or SIGHUP stops them when what runs is finished; a second one exits at once.

    What the code of a service sets beats an option, and an option beats its environment variable, which beats
    eventmicro.toml; but what is set there for one service by its name beats its code. So do logs that the code sets up.
    """
    link = Link.from_environment()
    folder = None if link is not None else find_folder(targets or [])
    if link is None and (reload or workers > 1 or folder):  # the code is run by workers
        set_up(log_level.value, log_format.value)
    for name, variable in HANDED_ON.items():
        if is_typed(context, name):
            say(variable, str(context.params[name]))
    if folder is not None:
        sys.exit(run_folder(context, folder, only))
    if only is not None:
        raise UsageError("--only is for the services of a folder: leave it out, or the targets")
    check_registry("--registry", registry)
    if health_port and workers > 1:
        raise UsageError("--health-port is one port, and workers are several processes: leave out --workers, or it")

    flag = broker if is_typed(context, "broker") else None
    command = Command(tuple(targets or ()), flag, log_level.value, log_format.value, workers)
    if link is None and reload:
        if workers > 1:
            raise UsageError("--reload runs one worker: leave out --workers, or --reload")
        sys.exit(run_reloading(command))
    if link is None and workers > 1:
        sys.exit(run_workers(command))
    health = None if health_port is None else (health_host, health_port)
    sys.exit(run_here(command, link, health, level_is_asked=_is_said(context, "log_level")))


def _is_said(context: typer.Context, name: str) -> bool:
    """Whether an option was said at all, on the command line, in the environment or in a file."""
    source = context.get_parameter_source(name)
    return source is not None and source.name in ("COMMANDLINE", "ENVIRONMENT", "DEFAULT_MAP")
