"""What commands say of files that they write."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from eventmicro.cli import generate


@pytest.mark.parametrize("is_terminal", [True, False])
def test_a_person_is_told_what_was_written_and_the_log_of_a_build_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], is_terminal: bool
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: is_terminal)
    out = tmp_path / "made" / "orders.py"
    generate.write(out, "x = 1\n")
    assert out.read_text() == "x = 1\n"
    said = capsys.readouterr()
    assert (said.out, said.err) == ("", f"wrote {out}\n" if is_terminal else "")


def test_it_is_told_what_protoc_and_our_plugin_have_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("grpc_tools")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    source = tmp_path / "shop" / "tea.proto"
    source.parent.mkdir()
    source.write_text(
        'syntax = "proto3";\npackage shop;\nmessage Cup {}\nservice Tea { rpc Pour(Cup) returns (Cup); }\n'
    )
    out = tmp_path / "made"
    generate.proto([source], out, [tmp_path])
    written = [out / "shop" / name for name in ("tea_contracts.py", "tea_pb2.py", "tea_pb2.pyi")]
    assert capsys.readouterr().err.splitlines() == [f"wrote {file}" for file in written]
    assert all(file.stat().st_size for file in written)
