"""What docs/interop.md shows runs, and says what it says there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.processes import Program

PAGE = (Path(__file__).parents[2] / "docs/interop.md").read_text()
PROGRAMS = re.findall(r"```python\n# (\w+\.py)\n(.*?)```.*?```text\n(.*?)```", PAGE, re.DOTALL)


def test_the_page_shows_two_programs() -> None:
    assert [name for name, _, _ in PROGRAMS] == ["greetings.py", "orders.py"]


@pytest.mark.parametrize(("name", "code", "said"), PROGRAMS, ids=[name for name, _, _ in PROGRAMS])
def test_a_program_says_what_the_page_says(name: str, code: str, said: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(code)
    with Program(tmp_path, name, python=True) as program:
        assert program.wait() == 0, program.output
    assert sorted(program.output.splitlines()) == sorted(said.splitlines())
