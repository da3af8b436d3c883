"""A KDC of Kerberos (MIT's) with a realm of its own, and a Kafka broker that takes its tickets."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from pathlib import Path

from tests.servers.kafka import KafkaServer
from tests.servers.kafka_jars import java
from tests.servers.process import HOST, ServerProcess, ServerUnavailable, free_port

REALM = "EXAMPLE.TEST"
HOW = "it runs tests/servers/install-kerberos and pip install gssapi, then these tests"
LISTENER = "SASL_PLAINTEXT"

CLIENTS = """\
[libdefaults]
 default_realm = {realm}
 dns_lookup_kdc = false
 dns_canonicalize_hostname = false
 rdns = false
 udp_preference_limit = 1
[realms]
 {realm} = {{
  kdc = {host}:{port}
 }}
[domain_realm]
 localhost = {realm}
"""
KDC = """\
[kdcdefaults]
 kdc_listen = ""
 kdc_tcp_listen = {host}:{port}
[realms]
 {realm} = {{
  database_name = {folder}/principal
  key_stash_file = {folder}/stash
 }}
[logging]
 kdc = FILE:{folder}/kdc.log
"""


class KerberosServer(ServerProcess):
    """A KDC on a free port, which says by `environment` where it is; nothing of the system's is read or changed."""

    name = "kerberos"

    def __init__(self) -> None:
        super().__init__()
        self.port = free_port()

    @property
    def config(self) -> Path:
        """What clients of the realm read, Java's as well."""
        return self.folder / "krb5.conf"

    def environment(self, keytab: Path | None = None) -> dict[str, str]:
        """By which a client finds the KDC, and the keytab that gets it tickets, if any does."""
        return {"KRB5_CONFIG": str(self.config), "KRB5_CLIENT_KTNAME": str(keytab or self.folder / "none.keytab")}

    def launch(self) -> subprocess.Popen[bytes]:
        place = {"realm": REALM, "host": HOST, "port": self.port, "folder": self.folder}
        self.config.write_text(CLIENTS.format(**place))
        (self.folder / "kdc.conf").write_text(KDC.format(**place))
        if not (self.folder / "principal").exists():
            self._run("kdb5_util", "create", "-s", "-r", REALM, "-P", "master")
        return self._spawn([_program("krb5kdc"), "-n", "-r", REALM], self._own_environment())

    def is_ready(self) -> bool:
        try:
            socket.create_connection((HOST, self.port), 1).close()
        except OSError:
            return False
        return True

    def add(self, principal: str, name: str = "") -> Path:
        """Make a principal, or new keys for one, and return a keytab with its keys."""
        keytab = self.folder / f"{name or principal.replace('/', '-')}.keytab"
        self._run("kadmin.local", "-q", f"addprinc -randkey {principal}")
        self._run("kadmin.local", "-q", f"ktadd -k {keytab} {principal}")
        return keytab

    def take_ticket(self, principal: str, keytab: Path, cache: Path, lifetime: str = "1h") -> None:
        """As a user does by `kinit`."""
        self._run("kinit", "-l", lifetime, "-k", "-t", str(keytab), "-c", f"FILE:{cache}", principal)

    def _run(self, program: str, *arguments: str) -> None:
        done = subprocess.run(
            [_program(program), *arguments],
            env={**os.environ, **self._own_environment()},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr

    def _own_environment(self) -> dict[str, str]:
        return {"KRB5_CONFIG": str(self.config), "KRB5_KDC_PROFILE": str(self.folder / "kdc.conf")}


def kafka_with_tickets(kerberos: KerberosServer, keytab: Path, service: str = "kafka") -> KafkaServer:
    """A broker that takes the tickets of a realm, on its listener SASL_PLAINTEXT.

    Raises:
        ServerUnavailable: the Java that is here knows nothing of Kerberos.
    """
    modules = subprocess.run([java(), "--list-modules"], capture_output=True, text=True, timeout=60, check=True).stdout
    if "jdk.security.auth" not in modules:
        raise ServerUnavailable("kerberos", f"{java()} has no Kerberos: apt-get install openjdk-17-jre-headless")
    name = f"listener.name.{LISTENER.lower()}.gssapi."
    login = "com.sun.security.auth.module.Krb5LoginModule required useKeyTab=true storeKey=true "
    config = {
        "sasl.enabled.mechanisms": "GSSAPI",
        "sasl.kerberos.service.name": service,
        f"{name}sasl.jaas.config": f'{login}keyTab="{keytab}" principal="{service}/localhost@{REALM}";',
    }
    server = KafkaServer(config, listeners=[LISTENER])
    server.addresses[LISTENER] = f"localhost:{server.ports[LISTENER]}"
    server.jvm = [f"-Djava.security.krb5.conf={kerberos.config}"]
    return server


def _program(name: str) -> str:
    found = shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    if found is None:
        raise ServerUnavailable("kerberos", f"{name} is not installed; make test-kerberos: {HOW}")
    return found
