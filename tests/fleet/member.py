"""`python -m tests.fleet.member BROKER FLAVOUR URL SUBJECT [FIRST END]`: a consumer, or with numbers a publisher."""

from __future__ import annotations

import asyncio
import importlib
import sys


def main(broker: str, flavour: str, url: str, subject: str, *numbers: str) -> None:
    members = importlib.import_module(f"tests.fleet.{broker}")
    if numbers:
        asyncio.run(members.PUBLISHERS[flavour](url, subject, range(int(numbers[0]), int(numbers[1]))))
    else:
        asyncio.run(members.CONSUMERS[flavour](url, subject))


if __name__ == "__main__":
    main(*sys.argv[1:])
