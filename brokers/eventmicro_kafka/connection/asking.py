"""Asking a server over HTTP with a password or a token, which go to that server and to no other one."""

from __future__ import annotations

from typing import Any
from urllib.request import HTTPRedirectHandler, build_opener


class _Stays(HTTPRedirectHandler):
    """Follows no redirect: Python's own takes the login along, wherever it is sent."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        """None: the answer is an error, which names the status."""


open_url = build_opener(_Stays()).open
