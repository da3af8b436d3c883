#!/usr/bin/env bash
# pydantic 2.14.4 checks a `pattern` by Rust's regex and hands it on unchanged into the JSON Schema, where patterns are ECMA-262's.
# `[a-z&&[^aeiou]]+`, consonants: pydantic takes "xyz"; by the schema that it makes of this, jsonschema 4.26.0 refuses "xyz", as one
# that does not match, and ajv 8.20.0 refuses the schema. `^\p{Lu}+$`, capitals, is no valid schema for jsonschema, and is one for ajv.
# One would guess: what a model takes its schema takes, or pydantic says that it cannot be put into one.
# Exits 0 while that is so, non-zero when it changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q pydantic==2.14.4 jsonschema==4.26.0
npm install --silent --no-audit --no-fund --prefix "$folder" ajv@8.20.0
cat > "$folder/ajv.cjs" <<'JS'
const Ajv = require("ajv/dist/2020");
try {
  console.log(new Ajv().validate(JSON.parse(process.argv[2]), process.argv[3]));
} catch (error) {
  console.log(error.message);
}
JS
cat > "$folder/show.py" <<'PYTHON'
import json
import subprocess
import sys
import warnings
from typing import Annotated

import jsonschema
from pydantic import Field, TypeAdapter, ValidationError

warnings.simplefilter("ignore", FutureWarning)
found = {}
for pattern, value in ((r"^[a-z&&[^aeiou]]+$", "xyz"), (r"^\p{Lu}+$", "ABC")):
    adapter = TypeAdapter(Annotated[str, Field(pattern=pattern)])
    schema = adapter.json_schema()
    answers = {}
    for name, error, check in (
        ("pydantic", ValidationError, lambda: adapter.validate_python(value)),
        ("jsonschema", jsonschema.ValidationError, lambda: jsonschema.validate(value, schema)),
    ):
        try:
            check()
            answers[name] = True
        except error:
            answers[name] = False
        except jsonschema.SchemaError as refused:
            answers[name] = refused.message
    said = subprocess.check_output(["node", sys.argv[1], json.dumps(schema), value], text=True).strip()
    answers["ajv"] = {"true": True, "false": False}.get(said, said)
    print(pattern, repr(value), answers)
    found[pattern, value] = answers
consonants, capitals = found.values()
assert (consonants["pydantic"], consonants["jsonschema"]) == (True, False) and "Invalid regular" in str(consonants["ajv"])
assert (capitals["pydantic"], capitals["ajv"]) == (True, True) and "is not a 'regex'" in str(capitals["jsonschema"])
PYTHON
"$folder/venv/bin/python" "$folder/show.py" "$folder/ajv.cjs"
