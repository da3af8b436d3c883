"""Writes the generated part of brokers.md: python docs/update.py [--check]"""

from __future__ import annotations

import sys
from pathlib import Path

from eventmicro.cli.brokers import one_a_kind, to_markdown
from eventmicro.plugins import installed_brokers

FILE = Path(__file__).with_name("brokers.md")
BEGIN, END = "<!-- generated: begin -->\n", "<!-- generated: end -->"


def updated(text: str) -> str:
    """The text with the generated part as it should be."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}{to_markdown(one_a_kind(installed_brokers()))}\n{END}{after}"


if __name__ == "__main__":
    text = FILE.read_text()
    if "--check" in sys.argv:
        sys.exit(0 if updated(text) == text else "docs/brokers.md is not what the adapters declare: run `make docs`")
    FILE.write_text(updated(text))
