"""What stands around the code of docs/operations.md."""

from eventmicro import Service

"docs/operations.md 1"
traced = service

"docs/operations.md 2"


async def main() -> None:
    for each in (traced, service):
        async with each:
            assert (await each.health()).ready
