#!/usr/bin/env bash
# pydantic 2.14.4, JSON into a field of type Decimal: the number 12345678901234567.89 becomes Decimal("12345678901234568"), also in
# strict mode, and 100.00 becomes Decimal("100"); whole numbers of any length are exact. msgspec 0.23.0 has the digits as they stand.
# One would guess: Decimal is taken because its digits count, and they are in the JSON. An amount is off by 0.11 without a word, and a
# field with max_digits=4, decimal_places=2 takes 0.12000000000000000001, whose twenty digits it never saw.
# Exits 0 while that is so, non-zero when it changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q pydantic==2.14.4 msgspec==0.23.0
cat > "$folder/show.py" <<'PYTHON'
import sys
from decimal import Decimal
from importlib.metadata import version
from typing import Annotated

import msgspec
from pydantic import Field, TypeAdapter

print("pydantic", version("pydantic"), "msgspec", version("msgspec"))
adapter, found = TypeAdapter(Decimal), {}
for number in ("12345678901234567.89", "100.00", "123456789012345678901234567890"):
    quoted = adapter.validate_json(f'"{number}"')
    read = [adapter.validate_json(number), adapter.validate_json(number, strict=True), msgspec.json.decode(number, type=Decimal)]
    print(f"{number}: pydantic {read[0]}, strict {read[1]}, in quotes {quoted}, msgspec {read[2]}")
    found[number] = [str(one) for one in read]
price = TypeAdapter(Annotated[Decimal, Field(max_digits=4, decimal_places=2)])
digits = str(price.validate_json("0.12000000000000000001"))
print("0.12000000000000000001 as a price of four digits:", digits)
rounded, cut, whole = found.values()
assert rounded == ["12345678901234568"] * 2 + ["12345678901234567.89"]
assert cut == ["100", "100", "100.00"] and len(set(whole)) == 1 and digits == "0.12"
PYTHON
"$folder/venv/bin/python" "$folder/show.py"
