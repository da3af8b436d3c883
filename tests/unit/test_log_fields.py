"""The lines of the adapters say of which queue they are by a field, too, not in words alone."""

from __future__ import annotations

import ast
import importlib
from collections.abc import Iterator
from pathlib import Path

import pytest

LEVELS = {"warning", "error", "info", "exception", "log", "critical"}
ABOUT_QUEUES = ("queue %s", "queue %r")


def lines(package: str) -> Iterator[tuple[str, ast.Call]]:
    """Each line of the log that an adapter may say: its text, and how it is said."""
    for folder in importlib.import_module(package).__path__:
        for file in sorted(Path(folder).rglob("*.py")):
            for node in ast.walk(ast.parse(file.read_text("utf-8"))):
                if isinstance(node, ast.Call) and ast.unparse(node.func) in {f"log.{level}" for level in LEVELS}:
                    texts = [each.value for each in node.args if isinstance(each, ast.Constant)]
                    yield next((text for text in texts if isinstance(text, str)), ""), node


@pytest.mark.parametrize("package", ["eventmicro_nats", "eventmicro_rabbitmq", "eventmicro_kafka"])
def test_a_line_about_a_queue_has_it_as_a_field(package: str) -> None:
    about = [(text, call) for text, call in lines(package) if text.startswith(ABOUT_QUEUES)]
    assert about
    assert [text for text, call in about if not names_queue(call)] == []


def names_queue(call: ast.Call) -> bool:
    """Whether its fields have the queue, where they are written there; elsewhere they are those of a queue."""
    extra = next((each.value for each in call.keywords if each.arg == "extra"), None)
    if isinstance(extra, ast.Dict):
        return "queue" in [key.value for key in extra.keys if isinstance(key, ast.Constant)]
    return extra is not None
