"""The batch script and its answers, run by the shells of this machine; no SSH, no other machine."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from dockyard.framing import Answer, Batch, Command, Completed, Ending, Request, request, was_refused
from dockyard.secret import Secret
from dockyard.topology import Sudo

SHELLS = [
    pytest.param(shell, id=" ".join(shell))
    for shell in (["sh"], ["dash"], ["bash", "--posix"], ["busybox", "sh"])
    if shutil.which(shell[0])
]


def sh(script: str, name: str = "it", *, timeout_s: float = 20.0, stdin: bytes | Secret = b"") -> Command:
    return Command(name, ("sh", "-c", script), timeout_s=timeout_s, stdin=stdin)


def answered(batch: Batch, shell: list[str], script: bytes | None = None) -> Answer:
    """What ``batch`` answers when ``shell`` reads its script."""
    ran = subprocess.run(shell, input=script or batch.script(), capture_output=True, timeout=30, check=False)
    return batch.read(ran.stdout, ran.stderr)


def completed(*commands: Command, shell: list[str] | None = None) -> dict[str, Completed]:
    read = answered(Batch(commands), shell or ["sh"])
    assert read.ending is Ending.COMPLETE
    return {one.name: one for one in read.completed}


@pytest.mark.parametrize("shell", SHELLS)
def test_every_command_has_its_own_streams_and_exit_code(shell: list[str]) -> None:
    found = completed(
        Command("text", ("printf", "no newline")),
        sh("echo out; echo err >&2; exit 3", "both"),
        sh("printf '\\000\\377\\r\\n'", "bytes"),
        Command("silent", ("true",)),
        Command("echo", ("cat",), stdin=b"\0a\n\nEND\n"),
        shell=shell,
    )
    assert found["text"].stdout == "no newline"
    assert (found["both"].stdout, found["both"].stderr, found["both"].exit_code) == ("out\n", "err\n", 3)
    assert found["bytes"].stdout.encode("utf-8", "surrogateescape") == b"\0\xff\r\n"
    assert (found["silent"].stdout, found["silent"].stderr, found["silent"].exit_code) == ("", "", 0)
    assert found["echo"].stdout == "\0a\n\nEND\n"


@pytest.mark.parametrize("shell", SHELLS)
def test_a_command_is_stopped_at_its_limit_and_the_next_one_runs(shell: list[str]) -> None:
    found = completed(sh("echo begun; sleep 20", "slow", timeout_s=1), Command("next", ("echo", "here")), shell=shell)
    assert found["slow"].timed_out
    assert (found["slow"].exit_code, found["slow"].stdout) == (124, "begun\n")
    assert 0.9 <= found["slow"].duration_s < 5
    assert found["next"].stdout == "here\n"


def test_a_command_that_ignores_the_signal_is_killed() -> None:
    found = completed(sh("trap '' TERM; while :; do sleep 0.1; done", timeout_s=0.5))
    assert found["it"].timed_out
    assert found["it"].duration_s < 6


def test_a_command_that_returns_124_by_itself_did_not_time_out() -> None:
    assert not completed(sh("exit 124"))["it"].timed_out


def test_a_missing_program_is_127() -> None:
    assert completed(Command("it", ("no-such-program",)))["it"].exit_code == 127


def test_standard_input_is_closed() -> None:
    assert completed(Command("it", ("cat",)))["it"].stdout == ""


def test_a_command_that_does_not_read_its_input_is_no_problem() -> None:
    assert completed(Command("it", ("true",), stdin=b"x" * 300_000))["it"].exit_code == 0


def test_a_secret_reaches_its_command_and_no_argument_list() -> None:
    secret = Secret("p4ss-\u00e9")
    batch = Batch((Command("it", ("cat",), stdin=secret), Command("list", ("ps", "-eo", "args"))))
    answers = {one.name: one for one in answered(batch, ["sh"]).completed}
    assert answers["it"].stdout == "p4ss-\u00e9"
    assert "p4ss" not in answers["list"].stdout
    assert b"p4ss" not in batch.script()


def test_arguments_arrive_as_they_are() -> None:
    words = ("a b", "$HOME", "`id`", "'", '"', "*", "\\n", "", "-n", "!", "\u00fc", "\udcff")
    found = completed(Command("it", ("printf", "%s|", *words)))
    assert found["it"].stdout == "".join(f"{word}|" for word in words)


def test_an_accepted_exit_code_is_no_failure() -> None:
    found = completed(
        Command("grep", ("grep", "x", "/dev/null"), accepts=frozenset({0, 1}), vital=True),
        Command("next", ("true",)),
    )
    assert list(found) == ["grep", "next"]


def test_only_a_vital_command_stops_the_batch() -> None:
    vital = Command("change", ("false",), vital=True)
    assert list(completed(Command("probe", ("false",)), vital, Command("never", ("true",)))) == ["probe", "change"]


@pytest.mark.parametrize("shell", SHELLS)
def test_a_script_that_arrives_in_part_runs_nothing(shell: list[str], tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    batch = Batch((Command("it", ("touch", str(trace))), Command("in", ("cat",), stdin=b"x" * 1000)))
    script = batch.script()
    for cut in range(1, len(script) - len(b"batch\nexit 0\n"), 97):
        assert answered(batch, shell, script[:cut]).ending is Ending.SILENT
        assert not trace.exists(), f"after {cut} of {len(script)} bytes"
    assert answered(batch, shell).ending is Ending.COMPLETE
    assert trace.exists()


def test_a_shell_that_dies_names_the_command() -> None:
    batch = Batch(
        (Command("first", ("true",)), sh("kill -9 $(ps -o ppid= -p $PPID)", "murder"), Command("last", ("true",)))
    )
    read = answered(batch, ["sh"])
    assert read.ending is Ending.BROKEN
    assert [one.name for one in read.completed] == ["first"]
    assert read.missing is not None
    assert read.missing.name == "murder"


def test_what_a_login_shell_prints_before_and_a_daemon_after_is_ignored() -> None:
    batch = Batch((Command("it", ("echo", "mine")),))
    ran = subprocess.run(["sh"], input=batch.script(), capture_output=True, check=True)
    read = batch.read(b"Welcome!\n$ " + ran.stdout + b"a daemon", b"motd\n" + ran.stderr + b"talks")
    assert [(one.stdout, one.stderr) for one in read.completed] == [("mine\n", "")]


def test_a_batch_without_commands_is_complete() -> None:
    assert answered(Batch(()), ["sh"]).ending is Ending.COMPLETE


def test_names_are_unique_and_arguments_without_nul() -> None:
    with pytest.raises(ValueError, match="same name: it"):
        Batch((Command("it", ("true",)), Command("it", ("false",))))
    with pytest.raises(ValueError, match="NUL"):
        Batch((Command("it", ("echo", "\0")),))


def test_the_environment_is_the_same_everywhere() -> None:
    found = completed(sh('echo "$LC_ALL $PATH $(pwd) $(umask)"'))
    assert found["it"].stdout == "C /usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin / 0022\n"


def through_login_shell(sent: Request, shell: list[str], path: str | None = None) -> subprocess.CompletedProcess[bytes]:
    """What sshd does with an exec request: the login shell gets it after ``-c``."""
    environment = {"PATH": f"{path}:/usr/bin:/bin"} if path else None
    return subprocess.run(
        [*shell, "-c", sent.command], input=sent.stdin, capture_output=True, timeout=30, check=False, env=environment
    )


LOGIN_SHELLS = [*SHELLS, *(pytest.param([name], id=name) for name in ("fish", "tcsh", "zsh") if shutil.which(name))]


@pytest.mark.parametrize("shell", LOGIN_SHELLS)
def test_a_small_batch_travels_in_the_exec_string(shell: list[str]) -> None:
    batch = Batch((Command("it", ("printf", "%s", "it's $5 !\\n")),))
    sent = request(batch, Sudo.ROOT)
    ran = through_login_shell(sent, shell)
    assert sent.stdin == b""
    assert batch.read(ran.stdout, ran.stderr).completed[0].stdout == "it's $5 !\\n"


@pytest.mark.parametrize("shell", LOGIN_SHELLS)
def test_a_large_batch_travels_over_standard_input(shell: list[str]) -> None:
    batch = Batch((Command("it", ("printf", "%s", "it's $5 !\\n" * 2000)),))
    sent = request(batch, Sudo.ROOT)
    ran = through_login_shell(sent, shell)
    assert len(sent.command) < 100
    assert batch.read(ran.stdout, ran.stderr).completed[0].stdout == "it's $5 !\\n" * 2000


def test_a_batch_with_input_stays_out_of_the_exec_string() -> None:
    batch = Batch((Command("it", ("cat",), stdin=Secret("x")),))
    assert request(batch, Sudo.NOPASSWD).command == "exec sudo -n /bin/sh"


SUDO = """#!/bin/sh
# Reads lines as sudo -S does: one password, and every further line for another guess.
echo "$*" >>{log}
[ "$1" = -S ] && shift 3
for try in 1 2 3; do
  IFS= read -r given || exit 1
  echo "guess $given" >>{log}
  [ "$given" = right ] && {{ [ "$1" = -v ] && exit 0; exec "$@"; }}
  echo "Sorry, try again." >&2
done
exit 1
"""


@pytest.fixture
def sudo(tmp_path: Path) -> Path:
    """A stand-in for sudo in a folder of its own, which keeps every guess in ``log``."""
    program = tmp_path / "sudo"
    program.write_text(SUDO.format(log=tmp_path / "log"))
    program.chmod(0o755)
    return tmp_path


def test_the_right_password_runs_the_batch(sudo: Path) -> None:
    batch = Batch((Command("it", ("cat",), stdin=b"input\n"), Command("end", ("echo", "done"))))
    ran = through_login_shell(request(batch, Sudo.PASSWORD, password=Secret("right")), ["sh"], str(sudo))
    assert [one.stdout for one in batch.read(ran.stdout, ran.stderr).completed] == ["input\n", "done\n"]
    assert "right" not in (sudo / "log").read_text().replace("guess right", "")


def test_a_wrong_password_is_tried_once(sudo: Path, tmp_path: Path) -> None:
    batch = Batch((Command("it", ("touch", str(tmp_path / "trace"))),))
    ran = through_login_shell(request(batch, Sudo.PASSWORD, password=Secret("wrong")), ["sh"], str(sudo))
    assert was_refused(batch, ran.stdout)
    assert batch.read(ran.stdout, ran.stderr).ending is Ending.SILENT
    assert (sudo / "log").read_text().count("guess") == 1
    assert not (tmp_path / "trace").exists()


def test_a_password_that_is_not_needed_runs_as_no_command(sudo: Path) -> None:
    (sudo / "sudo").write_text('#!/bin/sh\n[ "$1" = -S ] && shift 3\n[ "$1" = -v ] && exit 0\nexec "$@"\n')
    batch = Batch((Command("it", ("echo", "fine")),))
    password = Secret("echo INJECTED")
    ran = through_login_shell(request(batch, Sudo.PASSWORD, password=password), ["sh"], str(sudo))
    assert [one.stdout for one in batch.read(ran.stdout, ran.stderr).completed] == ["fine\n"]
    assert b"INJECTED" not in ran.stdout + ran.stderr
