#!/usr/bin/env bash
# A number with a fraction in an AMQP 0-9-1 header, between Python's two clients: pamqp 4.0.1, on which aio-pika and aiormq are
# built, writes a Python float in 32 bits, so a time of day comes out up to a minute off and 19.99 as 19.989999771118164; pika
# 1.4.4 reads a double, as it is written by others, as an integer: 1.5 is 1. Neither says a word.
# One would guess: a float of Python is a double, which AMQP's tables have (`d`), as it is in JSON; amqplib 0.10.9 for JavaScript
# writes that, and RabbitMQ hands it on as it is.
# No server is needed: the script writes and reads the tables as the clients do.
# Exits 0 while that is so, non-zero when it changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q pamqp==4.0.1 pika==1.4.4
npm install --silent --no-audit --no-fund --prefix "$folder" amqplib@0.10.9
cat > "$folder/write.cjs" <<'JS'
const { encodeTable } = require("amqplib/lib/codec");
const buffer = Buffer.alloc(1000);
console.log(buffer.subarray(0, encodeTable(buffer, JSON.parse(process.argv[2]), 0)).toString("hex"));
JS
cat > "$folder/show.py" <<'PYTHON'
import json
import subprocess
import sys
from importlib.metadata import version

from pamqp import decode, encode
from pika.data import decode_table

headers = {"price": 19.99, "rate": 1.5, "at": 1767225601.25}
by_javascript = bytes.fromhex(subprocess.check_output(["node", sys.argv[1], json.dumps(headers)], text=True))
print("pamqp", version("pamqp"), "pika", version("pika"), "headers", headers)
found = {}
for writer, table in (("pamqp", encode.field_table(headers)), ("amqplib", by_javascript)):
    found[writer, "pamqp"] = decode.field_table(table)[1]
    found[writer, "pika"] = {name: value + 0 for name, value in decode_table(table, 0)[0].items()}
for (writer, reader), read in found.items():
    print(f"written by {writer:7}, read by {reader:5}:", read)
assert found["amqplib", "pamqp"] == headers, "a double is not read as it was written"
assert found["pamqp", "pamqp"]["price"] == 19.989999771118164, "pamqp does not write 32 bits"
assert found["pamqp", "pamqp"]["at"] == 1767225600.0, "pamqp does not write 32 bits"
assert found["amqplib", "pika"] == {"price": 19, "rate": 1, "at": 1767225601}, "pika does not cut fractions off"
PYTHON
"$folder/venv/bin/python" "$folder/show.py" "$folder/write.cjs"
