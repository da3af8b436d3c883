#!/usr/bin/env bash
# etcd 3.4.23 (Debian's), a transaction that compares the value of a key which is not there: EQUAL fails, and so do NOT_EQUAL, LESS
# and GREATER, also against the empty value. Its version, revisions and lease count as 0, and NOT_EQUAL to 1 holds for them.
# One would guess: what is not "old" is NOT_EQUAL to "old", so `if value(key) != "old" then put` also makes a key that is not there.
# It does not, answers 200 and runs the other branch.
# etcd must be installed: apt-get install --no-install-recommends etcd-server; nothing of its service is used.
# Exits 0 while that is so, non-zero when it changes.
set -euo pipefail
command -v etcd > /dev/null || { echo "etcd is not installed"; exit 2; }
folder=$(mktemp -d)
trap 'kill "$server" 2>/dev/null && wait "$server" 2>/dev/null || true; rm -rf "$folder"' EXIT
free() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }
clients=http://127.0.0.1:$(free) peers=http://127.0.0.1:$(free)
etcd --name show --data-dir "$folder/data" --listen-client-urls "$clients" --advertise-client-urls "$clients" --listen-peer-urls "$peers" \
  --initial-advertise-peer-urls "$peers" --initial-cluster "show=$peers" --logger zap --log-level error > "$folder/log" 2>&1 & server=$!
cat > "$folder/show.py" <<'PYTHON'
import base64
import json
import sys
import time
import urllib.error
import urllib.request

url, end = sys.argv[1], time.time() + 60


def ask(path, body=None):
    while True:
        try:
            request = urllib.request.Request(url + path, json.dumps(body).encode() if body else None)
            return json.load(urllib.request.urlopen(request, timeout=10))
        except urllib.error.HTTPError:
            raise
        except OSError:
            if time.time() > end:
                sys.exit("etcd did not start")
            time.sleep(0.2)


def holds(target, field, value, result):
    compare = {"key": base64.b64encode(b"none").decode(), "target": target, field: value, "result": result}
    return ask("/v3/kv/txn", {"compare": [compare]}).get("succeeded", False)


version = ask("/version")["etcdserver"]
print("etcd", version)
assert version == "3.4.23", "another version than the one that was looked at"
found = {}
for what, arguments in (
    ("value against 'old'", ("VALUE", "value", base64.b64encode(b"old").decode())),
    ("value against ''", ("VALUE", "value", "")),
    ("version against 1", ("VERSION", "version", 1)),
    ("lease against 1", ("LEASE", "lease", 1)),
):
    found[what] = [result for result in ("EQUAL", "NOT_EQUAL", "LESS", "GREATER") if holds(*arguments, result)]
    print(f"a key that is not there, its {what}: holds", *found[what] or ["nothing"])
sys.exit(list(found.values()) != [[], [], ["NOT_EQUAL", "LESS"], ["NOT_EQUAL", "LESS"]])
PYTHON
python3 "$folder/show.py" "$clients"
