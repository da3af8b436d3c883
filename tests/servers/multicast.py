"""Whether multicast DNS can be tried here: on the loopback interface alone, nothing of it leaves the machine."""

from __future__ import annotations

import socket
from contextlib import closing

from tests.servers.process import HOST, ServerUnavailable

GROUP, PORT = "224.0.0.251", 5354  # one beside that of DNS, so that nobody else hears of it


def check_multicast() -> None:
    """Send a packet to ourselves.

    Raises:
        ServerUnavailable: it does not arrive.
    """
    here = socket.inet_aton(HOST)
    with closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as listener:
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(("", PORT))
            listener.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, socket.inet_aton(GROUP) + here)
            listener.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, here)
            listener.settimeout(2)
            listener.sendto(b"are you there?", (GROUP, PORT))
            listener.recv(100)
        except OSError as error:
            raise ServerUnavailable("mdns", f"there is no multicast on {HOST}: {error}") from None
