#!/usr/bin/env bash
# protoc 35.1 (grpcio-tools 1.85.1) refuses `service Prices { rpc Quote(Quote) returns (Quote); }`: '"Quote" is not a message type',
# for within the service the name means the method; `rpc Ask(Quote)` and `rpc Quote(.shop.Quote)` are taken.
# One would guess: where only a message can stand, the message is meant. protobufjs 7.6.6 guesses so, too, and serves the
# file that protoc refuses: a schema that a JavaScript service has used for years stops at the first Python client.
# Exits 0 while that is so, non-zero when it changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q grpcio-tools==1.85.1
npm install --silent --no-audit --no-fund --prefix "$folder" protobufjs@7.6.6
cd "$folder"
write() {
  printf 'syntax = "proto3";\npackage shop;\nmessage Quote { string id = 1; }\n' > "$1.proto"
  echo "service Prices { rpc $2; }" >> "$1.proto"
}
write same 'Quote(Quote) returns (Quote)'
write other 'Ask(Quote) returns (Quote)'
write full 'Quote(.shop.Quote) returns (.shop.Quote)'
protoc() { venv/bin/python -m grpc_tools.protoc -I. --python_out=. "$1.proto" 2>&1; }
protoc other && protoc full && echo "protoc takes other.proto and full.proto"
if said=$(protoc same); then echo "protoc takes same.proto"; exit 1; fi
echo "protoc on same.proto: $said"
grep -q '"Quote" is not a message type' <<< "$said"
node -e '
const method = require("protobufjs").loadSync("same.proto").resolveAll().lookupService("shop.Prices").methods.Quote;
console.log("protobufjs on same.proto: Quote takes", method.resolvedRequestType.fullName);
process.exit(method.resolvedRequestType.fullName === ".shop.Quote" ? 0 : 1);'
