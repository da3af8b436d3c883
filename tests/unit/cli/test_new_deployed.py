"""What `eventmicro new` writes for those who run it, held to its readers: Docker, Compose, Kubernetes, GitHub."""

from __future__ import annotations

import json
import re
from fnmatch import fnmatch
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator, ValidationError
from jsonschema.validators import validator_for
from msgspec import ValidationError as WrongType

from eventmicro.cli.projects.filling import fill
from eventmicro.cli.projects.plan import BrokerKind, Kind, plan
from tests.unit.cli.test_new import EDGES

# What is newer than the oldest of the libraries that eventmicro is for, with which these tests are run, too.
get_builtin_schema = pytest.importorskip("check_jsonschema.builtin_schemas").get_builtin_schema
DockerfileParser = pytest.importorskip("dockerfile_parse").DockerfileParser
codecs = pytest.importorskip("lightkube.codecs")
YAML = pytest.importorskip("ruamel.yaml").YAML

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of what Copier stands on
DEPLOYMENT = (Path(__file__).parents[3] / "docs" / "deployment.md").read_text()
# Of YAML 1.2, as all these are: in 1.1 the `on` of a workflow is True.
PLAIN = YAML(typ="safe", pure=True)
# Each type and each broker.
PAIRS = [
    *((Kind.srv, broker) for broker in BrokerKind),
    *((kind, BrokerKind.kafka if kind is Kind.api else BrokerKind.nats) for kind in Kind if kind is not Kind.srv),
]


@cache
def schema(name: str) -> Any:
    """A schema of those that check-jsonschema has, as a validator."""
    found = get_builtin_schema(name)
    return validator_for(found, Draft202012Validator)(found)


def check_manifest(manifest: dict[str, Any]) -> None:
    """Kubernetes knows all that it says, with these types."""
    assert codecs.from_dict(manifest).to_dict() == manifest  # it takes no notice of a name that it does not know


@pytest.mark.parametrize(("kind", "broker"), PAIRS, ids=lambda word: word.value)
def test_what_reads_them_takes_the_files_of_each_project(kind: Kind, broker: BrokerKind, tmp_path: Path) -> None:
    project = tmp_path / "alpha_beta"
    fill(project, plan("alpha_beta", kind, broker))
    schema("vendor.compose-spec").validate(PLAIN.load((project / "compose.yaml").read_text()))
    schema("vendor.github-workflows").validate(PLAIN.load((project / ".github/workflows/ci.yml").read_text()))
    for manifest in PLAIN.load_all((project / "deploy" / "kubernetes.yaml").read_text()):
        check_manifest(manifest)
    check_dockerfile(project, 8000 if kind in EDGES else 8080)


def check_dockerfile(project: Path, port: int) -> None:
    """It copies what is there and is not kept out, and starts as nobody in particular, without a shell."""
    steps = DockerfileParser(fileobj=BytesIO((project / "Dockerfile").read_bytes())).structure
    said = [(step["instruction"], step["value"]) for step in steps if step["instruction"] != "COMMENT"]
    order = [word for word, _ in said]
    assert order == ["FROM", "WORKDIR", "COPY", "COPY", "RUN", "USER", "ENV", "EXPOSE", "CMD"]
    told = dict(said)
    kept_out = (project / ".dockerignore").read_text().split()
    for copied in (name for word, value in said if word == "COPY" for name in value.split()[:-1]):
        assert (project / copied).exists()
        assert not any(fnmatch(copied, pattern) for pattern in kept_out)
    assert told["USER"] == "1000"
    assert told["EXPOSE"] == str(port)
    assert str(port) in json.loads(told["CMD"])


@pytest.mark.parametrize("manifest", re.findall(r"```yaml\n(.*?)```", DEPLOYMENT, re.DOTALL))
def test_kubernetes_takes_what_the_page_on_deployment_shows(manifest: str) -> None:
    check_manifest(PLAIN.load(manifest))


def test_what_is_wrong_is_found(tmp_path: Path) -> None:
    with pytest.raises(ValidationError):
        schema("vendor.compose-spec").validate({"services": {"a": {"image": "b", "health_check": {}}}})
    with pytest.raises(ValidationError):
        schema("vendor.github-workflows").validate({"on": "push", "jobs": {"test": {"steps": []}}})
    fill(tmp_path / "alpha", plan("alpha", Kind.srv, BrokerKind.nats))
    text = (tmp_path / "alpha" / "deploy" / "kubernetes.yaml").read_text()
    with pytest.raises(AssertionError):
        check_manifest(PLAIN.load(text.replace("periodSeconds", "periodInSeconds")))
    with pytest.raises(WrongType):
        check_manifest(PLAIN.load(text.replace("replicas: 2", "replicas: two")))
