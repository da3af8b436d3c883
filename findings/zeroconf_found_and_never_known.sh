#!/usr/bin/env bash
# zeroconf 0.154.0: a service whose TXT record has 9,680 bytes registers without an error, a browser reports that it was added, and
# asking for its address and properties, with three seconds of time, finds nothing; with 8,660 bytes both are there.
# One would guess: what cannot be sent is refused when it is registered, as a name of more than 63 bytes is, and who is reported
# can be reached. Each key and value is well within the 255 bytes that it may have.
# Exits 0 while that is so, non-zero when it changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q zeroconf==0.154.0
cat > "$folder/show.py" <<'PYTHON'
import asyncio
import socket
import sys

import zeroconf
from zeroconf import IPVersion, ServiceInfo, ServiceStateChange
from zeroconf.asyncio import AsyncServiceBrowser, AsyncZeroconf

TYPE = "_show._tcp.local."


def on_loopback():
    return AsyncZeroconf(interfaces=["127.0.0.1"], ip_version=IPVersion.V4Only)


async def main():
    print("zeroconf", zeroconf.__version__)
    here, there, added = on_loopback(), on_loopback(), {}

    def changed(zeroconf, service_type, name, state_change):
        if state_change is ServiceStateChange.Added:
            added.setdefault(name, asyncio.Event()).set()

    browser = AsyncServiceBrowser(there.zeroconf, TYPE, handlers=[changed])
    found = []
    for keys in (34, 38):
        name = f"with{keys}.{TYPE}"
        properties = {f"k{number}": "x" * 250 for number in range(keys)}
        address = [socket.inet_aton("127.0.0.1")]
        info = ServiceInfo(TYPE, name, 80, addresses=address, properties=properties, server=f"with{keys}.local.")
        await (await here.async_register_service(info))
        await asyncio.wait_for(added.setdefault(name, asyncio.Event()).wait(), 10)
        known = await there.async_get_service_info(TYPE, name, timeout=3000)
        print(f"TXT record of {len(info.text)} bytes: registered, reported as added, known: {known is not None}")
        found.append(known is not None)
    await browser.async_cancel()
    await there.async_close()
    await here.async_close()
    return found


sys.exit(asyncio.run(main()) != [True, False])
PYTHON
"$folder/venv/bin/python" "$folder/show.py"
