"""The servers of the tests themselves: what they keep over a crash, who shares them, and that they end with the run."""

from __future__ import annotations

import json
import socket
import ssl
import subprocess
import sys
import tempfile
from contextlib import ExitStack, suppress
from pathlib import Path

import aio_pika
import nats
import psutil
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from tests.certificates import make_certificates
from tests.processes import environment, is_running
from tests.servers import KafkaServer, NatsServer, RabbitServer, ServerUnavailable
from tests.servers.nats import flush
from tests.servers.process import wait_for
from tests.servers.sharing import SharedServers

ROOT = Path(__file__).parents[2]


@pytest.mark.timeout_seconds(180)
async def test_rabbitmq_keeps_messages_vhosts_and_ports_over_a_crash(tmp_path: Path) -> None:
    certificates = make_certificates(tmp_path, "localhost")
    trusted = ssl.create_default_context(cafile=certificates.authority)
    with RabbitServer("disk_free_limit.absolute = 60MB", certificates=certificates) as server:
        url = server.url
        server.ctl("add_vhost", "other")
        async with await aio_pika.connect(url) as connection:
            channel = await connection.channel()
            await channel.declare_queue("kept", durable=True)
            kept = aio_pika.Message(b"kept", delivery_mode=aio_pika.DeliveryMode.PERSISTENT)
            await channel.default_exchange.publish(kept, "kept")
        server.ctl("eval", "mnesia:sync_log().")  # that there is such a queue is not on disk yet
        server.kill()
        server.start()
        async with await aio_pika.connect(server.tls_url, ssl_context=trusted) as connection:
            channel = await connection.channel()
            message = await (await channel.get_queue("kept")).get(no_ack=True)
            assert message.body == b"kept"
        assert server.url == url
        assert "other" in server.ctl("list_vhosts")
        assert '{disk_free_limit,"60MB"}' in server.ctl("environment")


@pytest.mark.timeout_seconds(120)
async def test_kafka_keeps_records_and_ports_over_a_crash_and_a_stop() -> None:
    with KafkaServer() as server:
        bootstrap = server.bootstrap
        for end in (server.kill, server.stop):
            async with AIOKafkaProducer(bootstrap_servers=bootstrap, acks="all") as producer:
                await producer.send_and_wait("kept", end.__name__.encode(), partition=0)
            end()
            server.start()
        async with AIOKafkaConsumer(bootstrap_servers=bootstrap, auto_offset_reset="earliest") as consumer:
            consumer.assign([TopicPartition("kept", 0)])
            assert [(await consumer.getone()).value for _ in range(2)] == [b"kill", b"stop"]


@pytest.mark.timeout_seconds(60)
async def test_kafka_listens_for_tls_and_passwords_too(tmp_path: Path) -> None:
    certificates = make_certificates(tmp_path, "localhost")
    listeners = ("SSL", "SASL_PLAINTEXT", "SASL_SSL")
    passwords = {"ann": "secret"}
    with KafkaServer(listeners=listeners, users=passwords, scram=passwords, certificates=certificates) as server:
        for listener in listeners:
            for mechanism in ("PLAIN", "SCRAM-SHA-512"):
                async with AIOKafkaProducer(
                    bootstrap_servers=server.addresses[listener],
                    security_protocol=listener,
                    ssl_context=ssl.create_default_context(cafile=certificates.authority),
                    sasl_mechanism=mechanism,
                    sasl_plain_username="ann",
                    sasl_plain_password="secret",
                ) as producer:
                    await producer.send_and_wait("kept", b"kept")


async def test_jetstream_keeps_streams_and_its_port_over_a_crash() -> None:
    with NatsServer(jetstream=True) as server:
        url = server.url
        connection = await nats.connect(url)
        await connection.jetstream().add_stream(name="KEPT", subjects=["kept"])
        await connection.jetstream().publish("kept", b"kept")
        await connection.close()
        server.kill()
        server.start()
        connection = await nats.connect(url)
        assert (await connection.jetstream().get_msg("KEPT", 1)).data == b"kept"
        await connection.close()


async def test_what_a_plain_client_has_subscribed_to_is_at_the_server_after_a_flush(nats_url: str) -> None:
    subscriber, publisher = await nats.connect(nats_url), await nats.connect(nats_url)
    for number in range(100):
        subscription = await subscriber.subscribe(f"flushed.{number}")
        await flush(subscriber)
        await publisher.publish(f"flushed.{number}", b"x")
        assert (await subscription.next_msg(timeout=10)).data == b"x"
    await subscriber.close()
    await publisher.close()


def test_a_server_that_is_paused_says_nothing_until_it_goes_on() -> None:
    with NatsServer() as server:
        server.pause()
        with socket.create_connection(("127.0.0.1", server.port), 10) as connection:
            connection.setblocking(False)
            with pytest.raises(BlockingIOError):
                connection.recv(4)
            server.resume()
            connection.settimeout(10)
            assert connection.recv(4) == b"INFO"


def test_a_server_that_does_not_start_tells_what_it_said() -> None:
    with pytest.raises(RuntimeError, match="nats did not start: nats-server: Parse error"), NatsServer("nonsense: {"):
        pass


def test_a_server_that_is_not_installed_is_reported_and_a_given_one_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.servers.rabbitmq.PROGRAMS", "/nowhere")
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setenv("EVENTMICRO_GO_SERVERS", "/nowhere")
    monkeypatch.setenv("EVENTMICRO_TEST_KAFKA_URL", "kafka://kafka.example:9092")
    shared = SharedServers()
    try:
        with pytest.raises(ServerUnavailable, match="RabbitMQ is not installed: apt-get install"):
            shared.begin("rabbitmq").result()
        with pytest.raises(ServerUnavailable, match="etcd is not installed: apt-get install"):
            shared.begin("etcd").result()
        assert shared.begin("kafka").result().url == "kafka://kafka.example:9092"
        assert shared.report() == (
            "servers: nats-server not used, JetStream not used, RabbitMQ skipped: RabbitMQ is not installed: "
            "apt-get install --no-install-recommends rabbitmq-server, Apache Kafka (given), "
            "etcd skipped: etcd is not installed: apt-get install --no-install-recommends etcd-server, Consul not used"
        )
    finally:
        shared.close()


USED_AND_MISSING = """
from tests.servers import ServerUnavailable

def test_used(nats_url):
    assert nats_url.startswith("nats://127.0.0.1:")

def test_missing():
    raise ServerUnavailable("rabbitmq", "no RabbitMQ here: get one")
"""


def test_a_run_skips_what_needs_a_missing_server_and_ends_with_a_line_on_all(tmp_path: Path) -> None:
    done = pytest_of(tmp_path, USED_AND_MISSING)
    assert done.returncode == 0, done.stdout + done.stderr
    assert ": no RabbitMQ here: get one\n" in done.stdout
    assert "\nservers: nats-server 2." in done.stdout
    assert (
        ", JetStream not used, RabbitMQ not used, Apache Kafka not used, etcd not used, Consul not used\n"
        in done.stdout
    )


def test_a_run_fails_where_a_required_server_is_missing(tmp_path: Path) -> None:
    done = pytest_of(tmp_path, USED_AND_MISSING, EVENTMICRO_REQUIRE="nats, rabbitmq")
    assert done.returncode == pytest.ExitCode.TESTS_FAILED
    assert "EVENTMICRO_REQUIRE has rabbitmq, but: no RabbitMQ here: get one" in done.stdout
    assert "1 failed, 1 passed" in done.stdout


def test_a_run_refuses_to_require_what_it_does_not_know(tmp_path: Path) -> None:
    done = pytest_of(tmp_path, USED_AND_MISSING, EVENTMICRO_REQUIRE="rabbit")
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert "EVENTMICRO_REQUIRE has ['rabbit']" in done.stderr


def test_a_worker_skips_where_the_leader_of_the_run_cannot_get_a_server(tmp_path: Path) -> None:
    nothing = {"PATH": "/nowhere", "JAVA_HOME": "", "https_proxy": "http://127.0.0.1:9"}
    nothing |= {"HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path)}
    done = pytest_of(tmp_path, "def test_kafka(kafka_url):\n    pass\n", "-n1", **nothing)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 skipped" in done.stdout
    assert "Apache Kafka skipped: jgo could not fetch Kafka" in done.stdout


WAIT_FOR_THE_END = """
import json, os, time
from pathlib import Path
import pytest

@pytest.mark.parametrize("number", [1, 2])
def test_wait(number, nats_url, jetstream_url, rabbitmq_url, kafka_url, worker_id):
    urls = [nats_url, jetstream_url, rabbitmq_url, kafka_url]
    Path("unfinished-" + worker_id).write_text(json.dumps(urls))
    Path("unfinished-" + worker_id).rename("urls-" + worker_id)
    time.sleep(600)
"""


def test_workers_share_one_server_of_a_kind_and_all_end_after_kill_9_of_the_run(tmp_path: Path) -> None:
    command = pytest_command(tmp_path, WAIT_FOR_THE_END, "-n2")
    with (
        tempfile.TemporaryDirectory() as left_behind,
        subprocess.Popen(command, cwd=tmp_path, env=environment_of(tmp_path) | {"TMPDIR": left_behind}) as run,
        ExitStack() as at_last,
    ):
        at_last.callback(run.kill)
        wait_for(lambda: run.poll() is not None or len(list(tmp_path.glob("urls-*"))) == 2)
        of_one, of_other = (json.loads(file.read_text()) for file in tmp_path.glob("urls-*"))
        assert of_one == of_other
        started = psutil.Process(run.pid).children(recursive=True)
        at_last.callback(kill, started)
        assert {"beam.smp", "epmd", "java", "nats-server"} <= {process.name() for process in started}
        run.kill()
        wait_for(lambda: not any(is_running(process.pid) for process in started))


def kill(processes: list[psutil.Process]) -> None:
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.kill()


def pytest_of(folder: Path, tests: str, *options: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        pytest_command(folder, tests, *options),
        cwd=folder,
        env=environment_of(folder) | variables,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def pytest_command(folder: Path, tests: str, *options: str) -> list[str]:
    """A run of these tests alone, with our fixtures and nothing else of ours."""
    (folder / "pytest.ini").write_text("[pytest]\n")
    (folder / "test_it.py").write_text(tests)
    return [sys.executable, "-P", "-m", "pytest", "-ra", "-p", "tests.servers.plugin", *options, "test_it.py"]


def environment_of(folder: Path) -> dict[str, str]:
    return environment(folder) | {"PYTHONPATH": str(ROOT)}
