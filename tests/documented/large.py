"""What stands around the code of docs/large.md."""

from eventmicro import Client, Service, Topic

Photo = bytes
photo = bytes(5_000_000)
service = Service("images", large="stream")


@service.rpc
async def shrink(photo: bytes) -> bytes:
    return photo[::2]


async def first() -> None:
    "docs/large.md 1"
    assert len(thumbnail) == 2_500_000


async def second(client: Client) -> None:
    "docs/large.md 2"


async def main() -> None:
    async with service, Client() as client:
        await first()
        await second(client)
