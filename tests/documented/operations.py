"""What stands around the code of docs/operations.md."""

from eventmicro import Service

"docs/operations.md 1"


async def main() -> None:
    async with service:
        assert (await service.health()).ready
