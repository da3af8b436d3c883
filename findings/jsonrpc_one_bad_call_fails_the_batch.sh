#!/usr/bin/env bash
# jsonrpcserver 5.0.9 and json-rpc 1.15.0: a batch of which one element is no call (`[{"jsonrpc": "2.0", "method": "ping", "id": 1}, 1]`)
# is answered by one error for all of it, which has no id, and the good call is not run.
# One would guess: an answer for each element, as JSON-RPC 2.0 has it in its examples ("rpc call Batch"): a result for id 1, and an
# error -32600 beside it. A caller that looks for its id waits in vain.
# Exits 0 while that is so, non-zero when it changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q jsonrpcserver==5.0.9 json-rpc==1.15.0
cat > "$folder/show.py" <<'PYTHON'
import json
import sys
from importlib.metadata import version

from jsonrpc import JSONRPCResponseManager, dispatcher
from jsonrpcserver import Success, dispatch, method

ran = []


@method(name="ping")
def ping_of_jsonrpcserver():
    ran.append("jsonrpcserver")
    return Success("pong")


@dispatcher.add_method(name="ping")
def ping_of_json_rpc():
    ran.append("json-rpc")
    return "pong"


call = {"jsonrpc": "2.0", "method": "ping", "id": 1}
answers = []
for batch in ([call], [call, 1], [call, {"method": 1, "jsonrpc": "2.0", "id": 2}]):
    asked = json.dumps(batch)
    print(asked)
    for name, answer in (("jsonrpcserver", dispatch(asked)), ("json-rpc", JSONRPCResponseManager.handle(asked, dispatcher).json)):
        print(f"   {name} {version(name)}: {answer}")
        answers.append(json.loads(answer))
assert all(isinstance(answer, list) and answer[0]["result"] == "pong" for answer in answers[:2])
assert ran == ["jsonrpcserver", "json-rpc"], "the good call was run"
sys.exit(not all(isinstance(answer, dict) and answer["error"]["code"] == -32600 and answer["id"] is None for answer in answers[2:]))
PYTHON
"$folder/venv/bin/python" "$folder/show.py"
