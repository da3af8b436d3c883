"""The documentation says what the code does."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest

from eventmicro.events.options import DeliveryOptions

DOCS = Path(__file__).parents[1] / "docs"


def test_what_the_docs_take_from_the_code_is_up_to_date() -> None:
    done = subprocess.run([sys.executable, DOCS / "update.py", "--check"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


def test_the_page_on_delivery_explains_every_option_and_no_other() -> None:
    explained = re.findall(r"^\| `(\w+)` \|", (DOCS / "delivery.md").read_text(), re.MULTILINE)
    assert explained == [field.name for field in fields(DeliveryOptions)]


@pytest.mark.parametrize("page", sorted(DOCS.glob("*.md")), ids=lambda page: page.name)
def test_every_file_that_is_linked_exists(page: Path) -> None:
    links = re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text())
    assert [link for link in links if not link.startswith("http") and not (DOCS / link).exists()] == []
