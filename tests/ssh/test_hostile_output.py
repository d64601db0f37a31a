"""Whatever a command prints arrives byte for byte, with its exit code, over both kinds of connection."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from dockyard.remote import Command, close_all
from dockyard.topology import Transport
from tests.ssh.sshd import Asking, Sshd, host_at, nornir_of

MEGABYTE = 1_000_000
HOSTILE = {
    "nothing": b"",
    "one newline": b"\n",
    "no final newline": b"10.20.0.5",
    "many final newlines": b"x\n\n\n",
    "trailing spaces": b"a  \n b \t \n",
    "carriage returns": b"a\r\nb\rc\r\r\n",
    "NUL": b"a\0b\0\0\n",
    "all bytes": bytes(range(256)) * 4,
    "invalid UTF-8": b"\xff\xfe\xc3(\n\x80",
    "UTF-8 over every read boundary": "┌─dock─┐│\n".encode() * 20_000,
    "a root prompt": b"root@dock-prod:~# \nmore\n",
    "a user prompt": b"user@x> \n$ \n% \ntotal:\n",
    "a fancy prompt": "\u276f \n".encode(),
    "colours": b"\x1b[1;31mred\x1b[0m \x1b[2J\x1b[H\n",
    "a bell and backspaces": b"\a\b\b\x7f\x04\x03\n",
    "a line of one megabyte": b"x" * MEGABYTE,
    "a megabyte of lines": b"0123456789abcde\n" * (MEGABYTE // 16),
    "a megabyte of zeros": bytes(MEGABYTE),
    "what looks like a frame": b"\n0123456789abcdef01234567 0 0 1.0 2.0\n\nbegin\n\nend\n",
    "shell syntax": b"'\"`$(reboot)\\ ; } fi done EOF END\n",
    "base64 end": b"END\nQUJD\nEND\n",
    "a question": b"Are you sure (yes/no)? Password: ",
    "ssh escape": b"\n~.\n~~\n~C\n",
    "a JSON line of 7 kB": b"[" + b'{"ifname":"wg0","mtu":1420},' * 250 + b"{}]\n",
}


@pytest.fixture(scope="module", params=list(Transport))
def ask(request: pytest.FixtureRequest, shared_server: Sshd) -> Iterator[Asking]:
    """One connection for the whole module."""
    host = host_at(shared_server, request.param)
    asking = Asking(nornir_of(host), host)
    yield asking
    close_all(asking.nornir)


def as_text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")


@pytest.mark.parametrize("case", HOSTILE)
def test_output_arrives_byte_for_byte(ask: Asking, case: str) -> None:
    data = HOSTILE[case]
    outputs = ask(
        Command("out", ("cat",), stdin=data),
        Command("err", ("sh", "-c", "cat >&2; exit 7"), stdin=data),
        Command("both", ("sh", "-c", "tee /dev/stderr"), stdin=data),
        Command("last", ("echo", "still here")),
    )
    assert outputs["out"].stdout == as_text(data)
    assert (outputs["err"].stdout, outputs["err"].stderr, outputs["err"].exit_code) == ("", as_text(data), 7)
    assert (outputs["both"].stdout, outputs["both"].stderr) == (as_text(data), as_text(data))
    assert outputs.text("last") == "still here\n"


def test_small_batches_go_in_one_exec_string_and_arrive_as_well(ask: Asking) -> None:
    outputs = ask(*(Command(f"{n}", ("printf", "%s\\n%s", "-" * n, "\u276f ")) for n in range(9)))
    assert [outputs[f"{n}"].stdout for n in range(9)] == [f"{'-' * n}\n\u276f " for n in range(9)]


def test_a_daemon_that_keeps_the_streams_open_does_not_block(ask: Asking) -> None:
    outputs = ask(Command("start", ("sh", "-c", "sleep 60 & echo started")), Command("next", ("true",)))
    assert outputs.text("start") == "started\n"
    assert outputs.received_at - outputs.sent_at < 10


def test_a_command_that_hangs_is_stopped_and_the_others_answer(ask: Asking) -> None:
    outputs = ask(
        Command("hang", ("sh", "-c", "printf part; exec sleep 60"), timeout_s=0.5), Command("next", ("echo", "here"))
    )
    assert outputs["hang"].timed_out
    assert outputs["hang"].stdout == "part"
    assert outputs.text("next") == "here\n"


def test_a_command_that_reads_finds_the_end_at_once(ask: Asking) -> None:
    assert ask(Command("read", ("cat",)))["read"].stdout == ""


def test_many_execs_at_once_on_one_connection(ask: Asking) -> None:
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(4) as pool:
        answers = pool.map(lambda n: ask(Command("n", ("sh", "-c", f"sleep 0.1; echo {n}"))).text("n"), range(8))
    assert list(answers) == [f"{n}\n" for n in range(8)]
