"""The oldest version of each dependency that is allowed, as constraints for pip.

`python -m tests.oldest`; with `tools` what else is to be installed for the tests.
"""

from __future__ import annotations

import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

from packaging.requirements import Requirement
from packaging.version import Version

PYPROJECT = Path(__file__).parent.parent / "pyproject.toml"
# Of what only tests and tools need any version will do.
ASIDE = frozenset(("dev", "demo", "site", "release"))
TOOLS = frozenset(
    [
        "attrs",
        "cloudevents",
        "cryptography",
        "mypy",
        "opentelemetry-sdk",
        "orjson",
        "packaging",
        "promql-parser",
        "psutil",
        "pytest",
        "pytest-xdist",
        "ruff",
        "types-protobuf",
        "types-PyYAML",
    ]
)


def constraints(text: str) -> list[str]:
    """Each dependency of a pyproject.toml, and of its extras, at its lower bound.

    Raises:
        ValueError: one of them has none.
    """
    project = tomllib.loads(text)["project"]
    extras = project["optional-dependencies"]
    written = [*project["dependencies"], *(each for name in extras if name not in ASIDE for each in extras[name])]
    return sorted(set(_oldest(project["name"], map(Requirement, written))))


def _oldest(own: str, requirements: Iterator[Requirement]) -> Iterator[str]:
    for each in requirements:
        if each.name == own:  # an extra that names others
            continue
        bounds = [Version(one.version) for one in each.specifier if one.operator in (">=", "==", "~=")]
        if not bounds:
            raise ValueError(f"{each} has no lower bound")
        yield f"{each.name}=={max(bounds)}" + (f" ; {each.marker}" if each.marker else "")


def tools(text: str) -> list[str]:
    """What the unit and wire tests need beside, of those that pyproject.toml has for developers."""
    written = tomllib.loads(text)["project"]["optional-dependencies"]["dev"]
    return [each.replace(" ", "") for each in written if Requirement(each).name in TOOLS]


if __name__ == "__main__":
    project = PYPROJECT.read_text()
    sys.stdout.write("\n".join(tools(project) if sys.argv[1:] == ["tools"] else constraints(project)) + "\n")
