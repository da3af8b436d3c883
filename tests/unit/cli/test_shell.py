"""What a line of `eventmicro shell` does: the commands over one connection, replies used again, subscribers."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
from pydantic import BaseModel

from eventmicro import Client, Context, Disconnected, MemoryBroker, NotFound, Service
from eventmicro.cli.session import Places
from eventmicro.cli.shell.lines import Leave
from eventmicro.cli.shell.session import HeldSession
from tests.unit.cli.kit import Typed, shell_over


class Order(BaseModel):
    sku: str
    quantity: int = 1


def orders(broker: MemoryBroker) -> Service:
    service = Service("orders", broker=broker)

    @service.rpc
    async def quote(request: Order, context: Context) -> dict[str, object]:
        context.reply_metadata["x-by"] = "orders\x1b[31m"
        return {"sku": request.sku, "total": 2 * request.quantity, "tenant": context.metadata.get("tenant")}

    @service.rpc
    async def listed() -> list[Order]:
        return [Order(sku="a"), Order(sku='it\'s "b"; exit', quantity=2)]

    @service.rpc
    async def text() -> str:
        return "a b"

    @service.rpc
    async def find(request: Order) -> Order:
        raise NotFound(f"no {request.sku}")

    @service.subscribe("orders.placed")
    async def placed(event: Order) -> None: ...

    return service


shell = shell_over(orders)


def test_commands_are_those_of_the_command_line_over_one_connection(shell: Typed) -> None:
    client = shell.session.run(shell.session.client())
    code, out, err = shell('call orders.quote \'{"sku": "tea", "quantity": 3}\' -m tenant=acme --metadata a=b')
    assert (code, json.loads(out), err) == (0, {"sku": "tea", "total": 6, "tenant": "acme"}, "")
    code, out, err = shell("services")
    assert (code, [line.split()[0] for line in out.splitlines()]) == (0, ["SERVICE", "orders"])
    assert shell("health orders")[0] == 0
    assert shell("nodes")[1].splitlines()[1].startswith("orders")
    assert shell("get orders")[1] == shell("describe orders")[1]
    assert "quote" in shell("stats")[1]
    assert shell.session.run(shell.session.client()) is client


def test_json_needs_no_quotes_and_comments_do_nothing(shell: Typed) -> None:
    code, out, _ = shell('call orders.quote {"sku": "a } \\" b", "quantity": 2}   --output raw')
    assert (code, json.loads(out)["sku"]) == (0, 'a } " b')
    assert shell("  # call orders.quote") == (0, "", "")
    assert shell("") == (0, "", "")


def test_the_last_replies_are_used_in_later_requests(shell: Typed) -> None:
    shell("call orders.listed")
    assert json.loads(shell('call orders.quote {"sku": $1[1].sku, "quantity": $_.1.quantity}')[1]) == {
        "sku": 'it\'s "b"; exit',
        "total": 4,
        "tenant": None,
    }
    assert json.loads(shell('call orders.quote \'{"sku": "<$1[1].sku>"}\' -m tenant=$_.sku')[1]) == {
        "sku": '<it\'s "b"; exit>',
        "total": 2,
        "tenant": 'it\'s "b"; exit',
    }
    assert json.loads(shell("call orders.quote $1[0]")[1])["sku"] == "a"
    assert json.loads(shell('call orders.quote {"sku": "$$1"}')[1])["sku"] == "$1"
    code, out, _ = shell("replies")
    assert (code, [line.split()[0] for line in out.splitlines()]) == (0, ["$1", "$2", "$3", "$4", "$5"])


@pytest.mark.parametrize(
    ("line", "code", "words"),
    [
        ("call orders.quote $9", 2, "eventmicro: $9: there is no such reply; there are $1 to $1"),
        ("call orders.quote $1.sky", 2, "eventmicro: $1 has no 'sky'; it has sku, total, tenant"),
        ("call orders.quote $_.sku.x", 2, "eventmicro: $_.sku is \"a\", and has no 'x'"),
        ('call orders.quote {"sku": "a"', 2, "eventmicro: a bracket or a quote is not closed: {"),
        ("call orders.quote 'a", 2, "eventmicro: a quote is not closed: 'a"),
        ('call orders.quote {"quantity": 1}', 1, "orders.quote: 400 Bad Request"),
        ('call orders.find {"sku": "a"}', 1, "no a"),
        ("call orders.quote -", 2, "in a shell there is no stdin"),
        ("call orders.quote @nowhere.json", 2, "@nowhere.json: No such file or directory"),
        ("cal orders.quote", 2, "No such command 'cal'. Did you mean 'call'"),
        ("call orders.quote --nothing", 2, "No such option: --nothing"),
        ("call orders.quote --output xml", 2, "'xml' is not one of 'json', 'raw', 'table'"),
        ("services --json -o raw", 2, "--json and --output raw: leave one of them out"),
        ("call orders.quote {} --interactive", 2, "--interactive asks for the body"),
        ("run app", 2, "run is not for a shell"),
        ("shell", 2, "shell is not for a shell"),
        ("stop subscribe", 2, "'subscribe' does not go on; there is nothing beside the prompt"),
        ("subscribe orders.placed --since 1h", 2, "memory:// keeps no events to read; able are "),
        ("register {}", 2, "name: Field required"),
        ("deregister orders", 2, "say which nodes: --node ID, or --all"),
    ],
)
def test_what_goes_wrong_is_said_and_the_shell_goes_on(shell: Typed, line: str, code: int, words: str) -> None:
    shell('call orders.quote {"sku": "a"}')
    got, out, err = shell(line)
    assert (got, out) == (code, "")
    assert words in err
    assert "Traceback" not in err
    assert shell("call orders.text")[:2] == (0, '"a b"\n')


def test_subscribe_goes_on_beside_the_prompt(shell: Typed) -> None:
    code, _, told = shell("subscribe orders.placed --count 2")
    assert (code, "`stop` ends it" in told, "Ctrl-C" in told) == (0, True, False)
    assert shell("beside")[1] == "subscribe orders.placed\n"
    assert shell("subscribe orders.placed")[0] == 2
    shell('publish orders.placed {"sku": "a"}')
    shell('publish orders.placed {"sku": "b"}')
    assert shell("wait")[0] == 0
    assert shell("beside")[1] == ""
    assert shell("subscribe orders.>")[0] == 0
    assert (shell("stop")[0], shell("beside")[1]) == (0, "")


def test_a_reply_in_three_forms_and_its_metadata(shell: Typed) -> None:
    _, table, metadata = shell("call orders.listed -o table --show-metadata")
    assert table.splitlines()[0].split() == ["SKU", "QUANTITY"]
    assert len(table.splitlines()) == 3
    _, table, metadata = shell('call orders.quote {"sku": "a"} -o table --show-metadata')
    assert [line.split()[0] for line in table.splitlines()] == ["FIELD", "sku", "total", "tenant"]
    assert metadata.splitlines()[-1] == "x-by: orders\\u001b[31m"
    assert shell("call orders.listed -o raw")[1].startswith('[{"sku":"a","quantity":1},')
    assert shell("call orders.text -o raw")[1] == '"a b"\n'
    raw = shell("nodes -o raw")[1]
    assert [json.loads(line)["service"] for line in raw.splitlines()] == ["orders"]


def test_a_request_and_an_event_are_filled_in(shell: Typed) -> None:
    shell.answers = ["tea", "two", "0x", "2"]
    code, out, err = shell("call orders.quote --interactive")
    assert (code, json.loads(out)["total"]) == (0, 4)
    assert len(shell.asked) == 4
    assert err.count("is not of type 'integer'") == 2
    shell("subscribe orders.placed --count 1")
    shell.answers = ["salt", ""]
    code, _, err = shell("publish orders.placed -i")
    assert (code, '{"sku": "salt"}' in err) == (0, True)
    shell.answers = ["tea"]
    code, _, err = shell("call orders.quote -i")
    assert (code, "was not filled in to the end" in err) == (2, True)
    assert "there is no orders.nothing; there are" in shell("call orders.nothing -i")[2]
    assert "no service subscribes to nowhere" in shell("publish nowhere -i")[2]


def test_a_body_out_of_a_file(shell: Typed, tmp_path: Path) -> None:
    (tmp_path / "request.json").write_text('{"sku": "filed"}')
    assert json.loads(shell(f"call orders.quote @{tmp_path}/request.json")[1])["sku"] == "filed"


def test_a_node_is_registered_and_taken_out(shell: Typed) -> None:
    record = '{"name": "legacy", "version": "1.0.0", "nodes": [{"id": "one"}, {"id": "two"}]}'
    assert shell(f"register {record}")[0] == 0
    assert {line.split()[2] for line in shell("nodes legacy")[1].splitlines()[1:]} == {"one", "two"}
    assert "legacy has no node three; it has one, two" in shell("deregister legacy --node three")[2]
    assert shell("deregister legacy --node one")[0] == 0
    assert [line.split()[2] for line in shell("nodes legacy")[1].splitlines()[1:]] == ["two"]
    assert shell("deregister legacy --all")[0] == 0
    assert "no node of 'legacy' is registered" in shell("deregister legacy --all")[2]


def test_help_names_the_commands_and_what_the_shell_has_itself(shell: Typed) -> None:
    code, out, _ = shell("help")
    assert (code, [word for word in ("subscribe", "replies", "Ctrl-D") if word not in out]) == (0, [])
    assert "SERVICE.ENDPOINT" in shell("help call")[1]
    for word in ("exit", "quit"):
        with pytest.raises(Leave):
            shell.lines.run(word)


def test_old_replies_are_forgotten(shell: Typed) -> None:
    for number in range(105):
        shell.session.keep(b"%d" % number)
    assert (shell.session.replies.find("6"), shell.session.replies.find("_")) == (5, 104)
    assert "there are $6 to $105" in shell("call orders.quote $5")[2]
    for _ in range(5):
        shell.session.keep(b" " * (6 * 1024 * 1024))
    assert len(list(shell.session.replies)) == 2


def test_a_place_that_is_not_reached_is_shown_without_its_password() -> None:
    def refuse() -> Client:
        raise Disconnected("away")

    with asyncio.Runner() as runner:
        session = HeldSession(runner, refuse, Places("nats://ann:secret@h:4222?password=secret"), input)
        assert session.state == "nats://h:4222: not connected"
        session.close()


def test_what_a_peer_has_replied_becomes_neither_an_option_nor_a_file(shell: Typed, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text('"of this machine"')
    for text in (f"@{tmp_path}/secret", "--rpc-broker=nats://127.0.0.1:1"):
        shell.session.keep(json.dumps(text).encode())
        for line in ("call orders.text $_", 'call orders.text "$_"', "call $_"):
            code, out, err = shell(line)
            assert (code, out) == (2, "")
            assert err.startswith(f"eventmicro: $_ begins with {text[0]!r}")
        assert shell('call orders.find \'{"sku": "$_"}\'')[2].endswith(f"no {text}\n")
        assert shell("call orders.text '{}' -m a=$_")[0] == 0


def test_what_is_no_command_is_told_by_name_and_help_lists_what_can_be_used_here(shell: Typed) -> None:
    code, out, err = shell("descrbe orders")
    assert (code, out) == (2, "")
    assert err == "eventmicro: No such command 'descrbe'. Did you mean 'describe'? `help` lists those there are\n"
    assert shell("--nothing")[0] == 2
    code, out, _ = shell("help")
    named = [line.split()[0] for line in out.splitlines() if line.startswith("  ")]
    assert code == 0
    assert {"call", "describe", "dead", "replies", "exit"} <= set(named)
    assert not {"run", "shell", "get"} & set(named)
    assert "--install-completion" not in out


def test_a_body_that_begins_with_a_minus_is_told_where_to_stand(shell: Typed) -> None:
    code, _, err = shell("call orders.quote -1")
    assert code == 2
    assert "write -- before it" in err
    assert shell("call orders.quote --timeout -1")[2].count("before it") == 0
    assert "orders.quote: 400" in shell("call orders.quote -- -1")[2]
