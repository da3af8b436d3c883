"""The files that docs show are files that are taken, and the variables beside them say the same."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from eventmicro import sources
from eventmicro.configuration.known import PROCESS, RUN, check_names
from eventmicro.configuration.words import read_words

DOCS = Path(__file__).parents[3] / "docs"
PAGES = [DOCS / "settings.md", DOCS / "running.md"]


@pytest.fixture(autouse=True)
def _nothing_said(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("EVENTMICRO_")]:
        monkeypatch.delenv(name)


def block(page: Path) -> str:
    (found,) = re.findall(r"```toml\n(.*?)```", page.read_text(), re.DOTALL)
    return str(found)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_file_that_is_shown_is_taken(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "eventmicro.toml").write_text(block(page))
    monkeypatch.setenv(sources.FILE_VARIABLE, str(tmp_path / "eventmicro.toml"))
    check_names()
    assert read_words({}, "my-orders", is_service=True)


def test_a_variable_that_is_shown_beside_a_key_says_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = block(DOCS / "settings.md")
    (tmp_path / "eventmicro.toml").write_text(text)
    monkeypatch.setenv(sources.FILE_VARIABLE, str(tmp_path / "eventmicro.toml"))
    in_file = {path: sources.as_text(said.value) for path, said in sources.all_said().items()}
    shown = dict(re.findall(r"# (EVENTMICRO_\w+)=(\S+)$", text, re.MULTILINE))
    assert len(shown) == 11
    monkeypatch.delenv(sources.FILE_VARIABLE)
    for name, value in shown.items():
        monkeypatch.setenv(name, value)
    in_environment = {path: sources.as_text(said.value) for path, said in sources.all_said().items()}
    assert in_environment.items() <= in_file.items()


def test_the_page_on_running_explains_all_that_a_service_of_the_file_has_beside_settings() -> None:
    rows = "".join(line for line in (DOCS / "running.md").read_text().splitlines() if line.startswith("| `"))
    assert {*RUN, *PROCESS} <= set(re.findall(r"`(\w+)`", rows))
