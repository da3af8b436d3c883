"""The constraints of `make test-oldest`: the lower bound of each dependency, and none forgotten."""

from __future__ import annotations

import pytest

from tests.oldest import PYPROJECT, constraints, tools

TEXT = """
[project]
name = "shop"
dependencies = ["pydantic>=2.13,<3"]
[project.optional-dependencies]
cli = ["typer>=0.24,<1", "shop[zstd]"]
zstd = ["backports.zstd>=1; python_version < '3.14'", "pinned==2.0", "about~=1.5"]
dev = ["shop[cli]", "ruff>=0.15", "pytest>=9,<10", "jgo>=3"]
"""


def test_each_is_at_its_lower_bound() -> None:
    assert constraints(TEXT) == [
        "about==1.5",
        'backports.zstd==1 ; python_version < "3.14"',
        "pinned==2.0",
        "pydantic==2.13",
        "typer==0.24",
    ]
    assert tools(TEXT) == ["ruff>=0.15", "pytest>=9,<10"]


def test_one_without_a_lower_bound_is_told() -> None:
    with pytest.raises(ValueError, match="typer<1 has no lower bound"):
        constraints(TEXT.replace("typer>=0.24,<1", "typer<1"))


def test_all_of_ours_have_one() -> None:
    assert "pydantic==2.13" in constraints(PYPROJECT.read_text())
