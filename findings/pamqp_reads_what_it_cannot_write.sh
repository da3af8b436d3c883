#!/usr/bin/env bash
# pamqp 4.0.1, on which aio-pika and aiormq are built, reads headers that it cannot write: a long string that is no UTF-8, as a peer
# sends it whose text is Latin-1, comes as bytes, and bytes are refused: "Unknown type: <class 'bytes'>". Whoever forwards a message
# with the headers that it came with, or keeps a copy of it, fails with a TypeError. A bytearray is written, as a byte array, `x`.
# One would guess: what the library has read it can write; AMQP 0-9-1 lets a long string be any octets (4.2.5.3), and pika 1.4.4
# writes bytes, too.
# No server is needed: the script reads and writes the tables as the clients do.
# Exits 0 while that is so, non-zero when it changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q pamqp==4.0.1 pika==1.4.4
cat > "$folder/show.py" <<'PYTHON'
import struct
from importlib.metadata import version

from pamqp import decode, encode
from pika.data import encode_table

print("pamqp", version("pamqp"), "pika", version("pika"))


def table(text: bytes) -> bytes:
    """A header `city` whose value is a long string."""
    fields = b"\x04city" + b"S" + struct.pack(">I", len(text)) + text
    return struct.pack(">I", len(fields)) + fields


def written(headers: object) -> str:
    try:
        return encode.field_table(headers).hex()
    except TypeError as error:
        return f"TypeError: {error}"


for name, text in (("UTF-8", "Málaga".encode()), ("Latin-1", "Málaga".encode("latin-1"))):
    headers = decode.field_table(table(text))[1]
    print(f"{name:7} read: {headers}  written again: {written(headers)}")
assert decode.field_table(table("Málaga".encode("latin-1")))[1] == {"city": b"M\xe1laga"}, "it is not read as bytes"
assert written({"city": b"M\xe1laga"}).startswith("TypeError"), "bytes are written"
kept = encode.field_table({"city": bytearray(b"M\xe1laga")})
print("bytearray:", decode.field_table(kept)[1])
assert decode.field_table(kept)[1] == {"city": bytearray(b"M\xe1laga")}, "a byte array does not come back as one"
pieces: list[bytes] = []
encode_table(pieces, {"city": b"M\xe1laga"})
print("pika writes bytes as:", b"".join(pieces).hex())
assert b"\x04cityx" in b"".join(pieces), "pika does not write bytes as a byte array"
PYTHON
"$folder/venv/bin/python" "$folder/show.py"
