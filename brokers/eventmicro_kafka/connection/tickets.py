"""Tickets: what GSSAPI shows to the brokers, and what to do where Kerberos gives none."""

from __future__ import annotations

import re
from typing import Any

from aiokafka import conn  # type: ignore[import-untyped]

from eventmicro_kafka.errors import NoTicket

_gssapi: Any = conn.gssapi
NO_TICKET: tuple[type[Exception], ...] = () if _gssapi is None else (_gssapi.exceptions.GSSError,)
"""What is raised where there is no ticket; aiokafka takes it for nothing that it knows, and its tasks end of it."""

_MENDS = (
    ("not found in Kerberos database", "kerberos_service and kerberos_domain are to name the brokers' principal"),
    ("Cannot contact any KDC", "is it running, and does krb5.conf, or KRB5_CONFIG, say where it is?"),
    ("Cannot find KDC", "krb5.conf, or KRB5_CONFIG, is to say where it is"),
    ("Clock skew", "set the clock of this machine, or of the KDC"),
    ("", "get one by kinit, or name a keytab in KRB5_CLIENT_KTNAME, by which it is renewed, too"),
)


def no_ticket(error: BaseException) -> NoTicket:
    """The error of Kerberos in our words, with the mend."""
    said = str(error)
    why = re.sub(r"^.*Minor \(\d+\): ", "", said, flags=re.DOTALL)
    mend = next(mend for words, mend in _MENDS if words in said)
    return NoTicket(f"Kerberos gives no ticket: {why}; {mend}")
