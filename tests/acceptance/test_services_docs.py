"""What docs/services.md shows runs and says what it says there; its tables are those of the code."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from eventmicro import Context, Service, ServiceError, errors
from tests.processes import Program

PAGE = (Path(__file__).parents[2] / "docs/services.md").read_text()
(CODE,) = re.findall(r"```python\n# library\.py\n(.*?)```", PAGE, re.DOTALL)

(SHAPES,) = re.findall(r"```python\n# warehouse\.py\n(.*?)```", PAGE, re.DOTALL)


def test_handlers_of_each_shape_do_what_the_page_says(tmp_path: Path) -> None:
    (tmp_path / "warehouse.py").write_text(SHAPES)
    with Program(tmp_path, "warehouse.py", python=True) as warehouse:
        assert warehouse.wait() == 0, warehouse.output
    said = re.findall(r"^ {8,}(?:print|await client\.publish)\(.*\) +# (.*)$", SHAPES, re.MULTILINE)
    said += re.findall(r"^ +print\(error.*\) +# (.*)$", SHAPES, re.MULTILINE)
    assert len(said) == 7
    assert set(said) <= set(warehouse.output.splitlines())


def test_the_program_says_what_the_page_says(tmp_path: Path) -> None:
    (tmp_path / "library.py").write_text(CODE)
    with Program(tmp_path, "library.py", python=True) as library:
        assert library.wait() == 0, library.output
    said = re.findall(r"print\(error.*?\) +# (.*)", CODE)
    assert len(said) == 4
    lines = library.output.splitlines()
    assert [line for line in lines if line in ["connected", *said, "closed"]] == ["connected", *said, "closed"]
    assert "RuntimeError: never Emma!" in lines


def rows(heading: str) -> list[list[str]]:
    """The cells of the first table behind a line, as they stand."""
    table = re.findall(r"^\|.*\|$", PAGE[PAGE.index(heading) :].partition("\n\n")[0], re.MULTILINE)
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in table[2:]]


def test_the_table_of_errors_has_all_that_cross_the_bus_with_code_and_retryable() -> None:
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, ServiceError)]
    expected = [(kind.__name__, kind.code, kind.retryable) for kind in kinds if kind is not ServiceError]
    told = [(name.strip("`"), int(code), retryable == "yes") for name, code, retryable, _ in rows("| class | code")]
    assert told == sorted(expected, key=lambda kind: kind[1])


def test_the_table_of_an_errors_fields_has_all_of_them() -> None:
    told = {name.strip("`") for name, *_ in rows("| field | default")}
    own = {name for name in {*vars(ServiceError()), *dir(ServiceError)} if not name.startswith("_")}
    assert told == own - {*dir(Exception), "received", "as_received", "to_json", "from_json", "from_form"}


def test_the_table_of_the_context_has_all_that_is_for_handlers_and_middleware() -> None:
    told = re.findall(r"`(\w+)[`(]", "".join(name for name, _ in rows("| attribute | meaning")))
    own = {name for name in dir(Context) if not name.startswith("_")}
    assert sorted(told) == sorted(own - {"delivery", "settles", "answers_with", "came_with"})


@pytest.mark.parametrize("hook", ["before_start", "after_start", "before_stop", "after_stop"])
def test_the_hooks_are_there(hook: str) -> None:
    assert f"@service.{hook}" in PAGE
    assert callable(getattr(Service, hook))
