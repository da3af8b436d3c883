"""`eventmicro new` and `init`: whole projects or none, of every type and broker; nothing is ever overwritten."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.main import get_command

from eventmicro import EventMicroError, UsageError
from eventmicro.cli.app import app
from eventmicro.cli.projects.filling import fill, put
from eventmicro.cli.projects.plan import BrokerKind, Kind, plan
from eventmicro.sources import FILE_VARIABLE
from tests.checkers import mypy

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of what Copier stands on

EDGES = (Kind.api, Kind.web)
PAIRS = [
    (kind, broker)
    for kind in Kind
    for broker in BrokerKind
    if (kind, broker.value) not in {(e, "memory") for e in EDGES}
]
Run = Callable[..., None]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs a command in an empty folder; what it raises is what a user is told."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(FILE_VARIABLE, "")  # a command names the file there that it has found
    monkeypatch.delenv(FILE_VARIABLE)

    def run(*arguments: str) -> None:
        with pytest.raises(SystemExit) as end:
            get_command(app).main(args=list(arguments), prog_name="eventmicro")
        assert end.value.code == 0

    return run


def files(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def environment(**variables: str) -> dict[str, str]:
    """That of a tool which sees our packages and is told nothing else."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("EVENTMICRO_")}
    own = {"PYTHONPATH": os.pathsep.join(sys.path), "PYTHONDONTWRITEBYTECODE": "1", "PYTEST_ADDOPTS": ""}
    return clean | own | variables


def check(folder: Path, *command: str, **variables: str) -> None:
    """A tool of Python succeeds in a folder, without a server."""
    if not (Path(sys.executable).parent / command[0]).exists():
        pytest.skip(f"{command[0]} is not installed")
    env = environment(**variables)
    done = subprocess.run(
        [sys.executable, "-m", *command], cwd=folder, env=env, capture_output=True, text=True, timeout=240, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


# One project of each type; a long name, as it makes long lines.
NAMES = {Kind.srv: "a_name_that_is_as_long_as_a_name_may_be_", Kind.fnc: "f", Kind.api: "edge", Kind.web: "my_page"}


@pytest.fixture(scope="module")
def projects(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("projects")
    for kind, name in NAMES.items():
        put(folder / name, lambda target, kind=kind, name=name: fill(target, plan(name, kind, BrokerKind.nats)))  # type: ignore[misc]
    return folder


@pytest.mark.parametrize("kind", list(Kind))
def test_the_tests_of_a_project_pass_offline(kind: Kind, projects: Path) -> None:
    if kind in EDGES:
        pytest.importorskip("starlette")
        pytest.importorskip("httpx2")
    check(projects / NAMES[kind], "pytest", "-q", "-p", "no:cacheprovider", "-W", "error")


@pytest.mark.parametrize("kind", list(Kind))
def test_the_settings_of_a_project_are_known(kind: Kind, projects: Path) -> None:
    check(projects / NAMES[kind], "eventmicro", "config")


def test_linters_find_nothing_in_projects(projects: Path) -> None:
    check(projects, "ruff", "check", "--no-cache", ".")
    check(projects, "ruff", "format", "--no-cache", "--check", ".")


def test_projects_are_typed_strictly(projects: Path) -> None:
    pytest.importorskip("starlette")
    parts = [f"{name}/{part}" for name in NAMES.values() for part in (name, "tests")]
    path = os.pathsep.join(NAMES.values())
    done = mypy(projects, *parts, env=environment(MYPYPATH=path))
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def code(tmp_path_factory: pytest.TempPathFactory) -> dict[Kind, dict[str, bytes]]:
    """The modules of each type, by their names in a project alpha."""
    found = {}
    for kind in Kind:
        folder = tmp_path_factory.mktemp("code") / "gamma"
        fill(folder, plan("gamma", kind, BrokerKind.nats))
        found[kind] = {name.replace("gamma", "alpha"): text for name, text in modules_of(files(folder)).items()}
    return found


def modules_of(made: dict[str, bytes]) -> dict[str, bytes]:
    return {name: text.replace(b"alpha", b"gamma") for name, text in made.items() if name.endswith(".py")}


@pytest.mark.parametrize(("kind", "broker"), PAIRS, ids=lambda word: word.value)
def test_each_type_on_each_broker(
    kind: Kind, broker: BrokerKind, tmp_path: Path, code: dict[Kind, dict[str, bytes]]
) -> None:
    """The code is the same on each broker; what is around it is right, and names that broker alone."""
    fill(tmp_path / "alpha", plan("alpha", kind, broker))
    made = files(tmp_path / "alpha")
    assert modules_of(made) == code[kind]
    assert len(made) >= 15
    for text in made.values():
        assert not [sign for sign in (b"{=", b"=}", b"[%", b"%]", b"[#") if sign in text]
        assert text.endswith(b"\n") or text == b""

    project = tomllib.loads(made["pyproject.toml"].decode())["project"]
    extras = {"nats": "nats", "rabbitmq": "rabbitmq", "kafka": "kafka,nats", "memory": ""}[broker]
    wanted = ",".join(filter(None, ("" if kind in EDGES else "cli", extras)))
    assert project["dependencies"][0] == f"eventmicro[{wanted}]>=0.1,<0.2"
    settings = tomllib.loads(made["eventmicro.toml"].decode())
    if broker is BrokerKind.nats:  # `eventmicro run` embeds it
        assert "broker" not in settings
        assert b"\n# EVENTMICRO_BROKER=jetstream://127.0.0.1:4222\n" in made[".env.example"]
        embedded = "eventmicro[embedded]>=0.1,<0.2" in project["optional-dependencies"]["dev"]
        assert embedded == (kind not in EDGES)
    else:
        scheme = {"rabbitmq": "amqp", "kafka": "kafka", "memory": "memory"}[broker]
        assert settings["broker"].startswith(f"{scheme}://")
        assert f"\nEVENTMICRO_BROKER={settings['broker']}\n" in made[".env.example"].decode()
    assert ("rpc_broker" in settings) == (broker is BrokerKind.kafka)

    compose = yaml.safe_load(made["compose.yaml"])
    servers = {"nats": {"nats"}, "rabbitmq": {"rabbitmq"}, "kafka": {"kafka", "nats"}, "memory": set()}[broker]
    assert set(compose["services"]) == {"alpha", *servers}
    assert set(compose["services"]["alpha"].get("depends_on", ())) == servers == set(compose.get("volumes", ()))
    assert all("healthcheck" in each for each in compose["services"].values())
    assert compose["services"].get("rabbitmq", {}).get("hostname", "rabbitmq") == "rabbitmq"
    assert broker is not BrokerKind.rabbitmq or "hostname" in compose["services"]["rabbitmq"]
    manifests: list[Any] = list(yaml.safe_load_all(made["deploy/kubernetes.yaml"]))
    assert [each["kind"] for each in manifests] == ["Deployment", "Service"][: 1 + (kind in EDGES)]
    [container] = manifests[0]["spec"]["template"]["spec"]["containers"]
    port = container["ports"][0]["containerPort"]
    assert port == (8000 if kind in EDGES else 8080)
    assert {container[f"{each}Probe"]["httpGet"]["path"] for each in ("startup", "liveness", "readiness")} == {
        "/health/live",
        "/health/ready",
    }
    assert f"http://127.0.0.1:{port}/health/ready" in compose["services"]["alpha"]["healthcheck"]["test"][-1]
    assert f"EXPOSE {port}".encode() in made["Dockerfile"]
    assert (b"eventmicro.toml" in made["Dockerfile"]) == (kind not in EDGES)  # what reads it there
    jobs = yaml.safe_load(made[".github/workflows/ci.yml"])["jobs"]
    assert [step["run"] for step in jobs["test"]["steps"] if "run" in step][-1] == "pytest"


def test_the_unit_of_systemd_is_one(run: Run, tmp_path: Path) -> None:
    """Each line is `Name=value` in a section; what systemd itself says is asked for where it is installed."""
    run("new", "shop")
    unit = tmp_path / "shop" / "deploy" / "shop.service"
    lines = [line for line in unit.read_text().splitlines() if line and not line.startswith("#")]
    assert [line for line in lines if line.startswith("[")] == ["[Unit]", "[Service]", "[Install]"]
    assert all("=" in line for line in lines if not line.startswith("["))
    started = next(line for line in lines if line.startswith("ExecStart="))
    unit.write_text(unit.read_text().replace(started, f"ExecStart={sys.executable}"))
    try:
        done = subprocess.run(
            ["systemd-analyze", "verify", str(unit)], capture_output=True, text=True, timeout=60, check=False
        )
    except FileNotFoundError:
        return
    assert (done.returncode, [line for line in done.stderr.splitlines() if "shop.service" in line]) == (0, [])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (
            ["my-shop"],
            "NAME 'my-shop': a package is named by small letters, digits and _, and begins with a letter: my_shop",
        ),
        (["9lives"], "begins with a letter: my_shop"),
        (["Größe é"], "begins with a letter: grosse_e"),
        (["../shop"], "begins with a letter: shop"),
        (["class"], "NAME 'class' is a word of Python itself, and no package can be imported so: class_service"),
        (["json"], "NAME 'json' is another module's name, which it would hide: json_service"),
        (["eventmicro"], "another module's name"),
        (["s" * 200], "has 200 letters; the most are 40"),
        (["shop", "--type", "api", "--broker", "memory"], "memory:// lives within one process"),
        (["shop", "--template", "nowhere"], "--template nowhere: there is no such folder"),
    ],
)
def test_what_cannot_be_made_is_refused_and_nothing_is_left(
    arguments: list[str], words: str, run: Run, tmp_path: Path
) -> None:
    with pytest.raises(UsageError) as refused:
        run("new", *arguments)
    assert words in str(refused.value)
    assert list(tmp_path.iterdir()) == []


def test_what_is_in_the_way_stays_as_it_is(run: Run, tmp_path: Path) -> None:
    (tmp_path / "shop").write_text("mine")
    with pytest.raises(UsageError, match="shop is there already"):
        run("new", "shop")
    (tmp_path / "gone").symlink_to(tmp_path / "nowhere")
    with pytest.raises(UsageError, match="gone is there already"):
        run("new", "gone")
    with pytest.raises(EventMicroError, match=r"shop/edge cannot be made: "):
        run("new", "edge", "--folder", "shop/edge")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["gone", "shop"]
    assert (tmp_path / "shop").read_text() == "mine"


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # Copier leaves a listing open
@pytest.mark.parametrize(
    ("broken", "words"),
    [
        ({"a.py.jinja": "{{ nam }}"}, "'nam' is undefined"),
        ({"first.txt": "x", "z.py.jinja": "line\n{% if %}"}, "z.py.jinja, line 2"),
        ({"copier.yml": "a: [", "a.py": ""}, "the template is broken"),
        ({"copier.yml": "_tasks: ['touch made-by-a-task']", "a.py": ""}, "the template is broken"),
    ],
    ids=["unknown", "syntax", "settings", "tasks"],
)
def test_a_broken_template_says_where_and_leaves_nothing(
    broken: dict[str, str], words: str, run: Run, tmp_path: Path
) -> None:
    template = tmp_path / "template"
    template.mkdir()
    (template / "copier.yml").write_text("_envops: {undefined: jinja2.StrictUndefined}")
    for name, text in broken.items():
        (template / name).write_text(text)
    with pytest.raises(EventMicroError) as refused:
        run("new", "shop", "--template", "template")
    assert words in str(refused.value)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["template"]


def test_a_template_of_ones_own(run: Run, tmp_path: Path) -> None:
    (tmp_path / "template").mkdir()
    (tmp_path / "template" / "{{ name }}.txt.jinja").write_text("{{ name }} on {{ broker }}: {{ url }}")
    run("new", "shop", "--template", "template", "--broker", "kafka")
    assert files(tmp_path / "shop") == {"shop.txt": b"shop on kafka: kafka://127.0.0.1:9092"}


def test_init_writes_what_is_missing(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "eventmicro.toml").write_text("# mine\n")
    run("init", "--name", "shop", "--broker", "rabbitmq")
    said = capsys.readouterr().err
    assert "kept  eventmicro.toml\n" in said
    assert "wrote shop/service.py\n" in said
    made = files(tmp_path)
    assert set(made) == {
        ".env.example",
        "eventmicro.toml",
        "pyproject.toml",
        "shop/__init__.py",
        "shop/messages.py",
        "shop/py.typed",
        "shop/service.py",
        "tests/test_shop.py",
    }
    assert made["eventmicro.toml"] == b"# mine\n"
    run("init", "--name", "shop", "--type", "fnc")
    assert files(tmp_path) == made


def test_init_names_the_services_that_are_there(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Code is read, not run; where there are services none is written."""
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "app.py").write_text("1 / 0\nfrom eventmicro import Service\norders = Service('orders')\n")
    (tmp_path / "broken.py").write_text("def (\n")
    (tmp_path / "pyproject.toml").write_text("[project]\nname = 'mine'\n")
    run("init", "--name", "shop")
    said = capsys.readouterr().err
    assert set(files(tmp_path)) == {"src/app.py", "broken.py", "pyproject.toml", "eventmicro.toml", ".env.example"}
    settings = tomllib.loads((tmp_path / "eventmicro.toml").read_text())
    assert settings["services"] == {"orders": {"target": "src/app.py:orders"}}
    assert "add to the dependencies in pyproject.toml: eventmicro[cli,nats]>=0.1,<0.2" in said


@pytest.mark.parametrize(
    ("file", "code", "sources"),
    [
        ("stock.py", "stock.py", None),
        ("store/app/stock.py", "store", None),
        ("src/store/stock.py", "src/store", ["src"]),
    ],
)
def test_init_packages_and_checks_the_code_that_is_there(
    file: str, code: str, sources: list[str] | None, run: Run, tmp_path: Path
) -> None:
    path = tmp_path / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("from eventmicro import Service\n\nstock = Service('stock')\n")
    run("init", "--name", "shop")
    tools = tomllib.loads((tmp_path / "pyproject.toml").read_text())["tool"]
    assert tools["hatch"]["build"]["targets"]["wheel"] == {"only-include": [code]} | (
        {} if sources is None else {"sources": sources}
    )
    assert tools["mypy"]["files"] == [code]
    assert "testpaths" not in tools["pytest"]["ini_options"]
    assert "broker" not in tomllib.loads((tmp_path / "eventmicro.toml").read_text())
    (tmp_path / "tests").mkdir()
    (tmp_path / "pyproject.toml").unlink()
    run("init", "--name", "shop")
    tools = tomllib.loads((tmp_path / "pyproject.toml").read_text())["tool"]
    assert tools["mypy"]["files"] == [code, "tests"]


def test_init_writes_toml_whatever_is_in_names(run: Run, tmp_path: Path) -> None:
    (tmp_path / 'a "b').mkdir()
    (tmp_path / 'a "b' / "main.py").write_text("""one = Service("shop-1")\ntwo = Service('x"]\\n[y')\n""")
    run("init", "--name", "shop")
    services = tomllib.loads((tmp_path / "eventmicro.toml").read_text())["services"]
    assert services == {"shop-1": {"target": 'a "b/main.py:one'}}


def test_init_refuses_a_folder_whose_name_is_none(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my-shop").mkdir()
    monkeypatch.chdir(tmp_path / "my-shop")
    with pytest.raises(UsageError, match=r"--name 'my-shop': .*: my_shop"):
        run("init")
    (tmp_path / "my-shop" / "eventmicro.toml").mkdir()
    with pytest.raises(UsageError, match=r"eventmicro\.toml is in the way: it is no file"):
        run("init", "--name", "my_shop")
