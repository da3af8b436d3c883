"""What docs/joining/nats.md shows runs and says what it says there; the rights it lists are enough."""

from __future__ import annotations

import re
from pathlib import Path

from tests.integration.jetstream.test_rights import CONSUMER, PUBLISH, QUEUE, SUBSCRIBE
from tests.processes import Program
from tests.servers import NatsServer

PAGE = (Path(__file__).parents[2] / "docs/joining/nats.md").read_text()
(CODE,) = re.findall(r"```python\n# join\.py\n(.*?)```", PAGE, re.DOTALL)


def test_the_program_says_what_the_page_says(tmp_path: Path) -> None:
    (tmp_path / "join.py").write_text(CODE)
    with (
        NatsServer(jetstream=True) as server,
        Program(tmp_path, "join.py", python=True, env={"NATS_URL": server.url}) as program,
    ):
        assert program.wait() == 0, program.output
    said = re.findall(r"print\(.*\) +# (.*)", CODE)
    assert len(said) == 2
    assert [line for line in program.output.splitlines() if line in said] == said


def test_the_rights_of_the_page_are_those_with_which_a_queue_is_tested() -> None:
    heading = PAGE[PAGE.index("## Rights") :]
    rows = re.findall(r"^\| (publish|subscribe) \| `(.*?)` \|", heading.partition("Some of it")[0], re.MULTILINE)
    words = {"<stream>": "EVENTS", "<consumer>": CONSUMER, "<queue>": QUEUE, "<subject>": "Orders.placed"}
    named: dict[str, set[str]] = {"publish": set(), "subscribe": set()}
    for right, subject in rows:
        for word, meant in words.items():
            subject = subject.replace(word, meant)
        named[right].add(subject)
    assert named == {"publish": set(PUBLISH), "subscribe": set(SUBSCRIBE)}
