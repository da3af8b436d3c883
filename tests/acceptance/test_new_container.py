"""A project of `eventmicro new` as its container runs it, without one: what the image has, its command, the probes of
Kubernetes and of Compose, and a stop.
"""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
import yaml
from dockerfile_parse import DockerfileParser

from eventmicro.cli.projects.filling import fill
from eventmicro.cli.projects.plan import BrokerKind, Kind, plan
from tests.processes import Program, environment, wait_until
from tests.servers.process import free_port

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of what Copier stands on


def image(project: Path, folder: Path) -> list[str]:
    """Make the folder that the Dockerfile makes of a project; the command that it says."""
    command: list[str] = []
    for step in DockerfileParser(fileobj=BytesIO((project / "Dockerfile").read_bytes())).structure:
        if step["instruction"] == "COPY":
            *sources, target = step["value"].split()
            for source in sources:
                copy(project / source, folder / target)
        elif step["instruction"] == "CMD":
            command = json.loads(step["value"])
    return command


def copy(source: Path, target: Path) -> None:
    """As COPY does: a folder's content, a file under its name."""
    if source.is_dir():
        shutil.copytree(source, target)
    else:
        target.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, target)


def answer(port: int, path: str) -> int | None:
    """The code that a probe gets; None: nobody listens."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as told:
            return int(told.status)
    except urllib.error.HTTPError as refused:
        return refused.code
    except OSError:
        return None


def probes(project: Path) -> Iterator[str]:
    manifest: dict[str, Any] = next(iter(yaml.safe_load_all((project / "deploy" / "kubernetes.yaml").read_text())))
    [container] = manifest["spec"]["template"]["spec"]["containers"]
    for name in ("startupProbe", "livenessProbe", "readinessProbe"):
        yield container[name]["httpGet"]["path"]


@pytest.mark.parametrize("kind", [Kind.srv, Kind.api], ids=lambda kind: kind.value)
def test_it_starts_from_what_is_copied_answers_its_probes_and_ends_when_it_is_told(
    kind: Kind, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    is_edge = kind is Kind.api
    project, folder, port = tmp_path / "shop", tmp_path / "image", free_port()
    fill(project, plan("shop", kind, BrokerKind.nats if is_edge else BrokerKind.memory))
    env = {"EVENTMICRO_BROKER": request.getfixturevalue("nats_url")} if is_edge else {}
    said = "8000" if is_edge else "8080"
    command = [str(port) if word == said else word for word in image(project, folder)]
    with Program(folder, "-m", *command, env=env, python=True) as program:
        wait_until(lambda: program.process.poll() is not None or answer(port, "/health/ready") == 200)
        assert [answer(port, path) for path in probes(project)] == [200, 200, 200], program.output
        check = yaml.safe_load((project / "compose.yaml").read_text())["services"]["shop"]["healthcheck"]["test"]
        assert check[:2] == ["CMD", "python"]
        asked = [sys.executable, *(word.replace(said, str(port)) for word in check[2:])]
        assert subprocess.run(asked, env=environment(folder), timeout=20, check=False).returncode == 0
        code = program.end()
    # uvicorn ends by the signal itself, when all is closed; what is the first process of a container then exits by 0
    assert code == (-signal.SIGTERM if is_edge else 0), program.output
    assert "Traceback" not in program.output
    assert sorted(path.name for path in folder.rglob("*") if path.suffix in (".log", ".db", ".pid")) == []
