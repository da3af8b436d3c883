#!/usr/bin/env bash
# protobuf 7.36.2 for Python, JSON with ignore_unknown_fields=True, a closed enum (proto2's): a value that is not known is passed
# over where it stands as a name, `"LABEL_NEW"`, and refused where it stands as its number, 99. Without that option both are.
# One would guess: the two spellings of one value fare alike. A reader that is to survive a writer's newer enum survives only those
# that write names, and the writer may choose (`use_integers_for_enums`, always_print_enums_as_ints).
# Exits 0 while that is so, non-zero when it changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q protobuf==7.36.2
cat > "$folder/show.py" <<'PYTHON'
import sys

import google.protobuf
from google.protobuf.descriptor_pb2 import FieldDescriptorProto
from google.protobuf.json_format import Parse, ParseError

print("protobuf", google.protobuf.__version__)
found = []
for ignore in (False, True):
    for label in ('"LABEL_NEW"', "99", '"LABEL_REPEATED"', "3"):
        try:
            message = Parse(f'{{"name": "x", "label": {label}}}', FieldDescriptorProto(), ignore_unknown_fields=ignore)
            found.append(message.label if message.HasField("label") else "passed over")
        except ParseError:
            found.append("refused")
        print(f"ignore_unknown_fields={ignore}, label {label}: {found[-1]}")
sys.exit(found != ["refused", "refused", 3, 3, "passed over", "refused", 3, 3])
PYTHON
"$folder/venv/bin/python" "$folder/show.py"
