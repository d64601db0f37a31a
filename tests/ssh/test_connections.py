"""What happens when a host is not there, goes away, or does not let us in."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import pytest

from dockyard import connections
from dockyard.errors import AuthenticationFailed, FramingError, RemoteError, SudoRefused, Unreachable
from dockyard.framing import LOCK
from dockyard.remote import Command, close_all, connect_ahead, execs, prepare
from dockyard.topology import Sudo, Transport
from tests.ssh.sshd import Asking, Opening, Sshd, free_port, host_at, make_key, nornir_of, wait_until

TRUE = Command("true", ("true",))


@contextmanager
def silent_listener() -> Iterator[int]:
    """A port that takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


@contextmanager
def greeting_listener() -> Iterator[int]:
    """A port where an SSH server says its version, and nothing after it: a machine that is alive and cannot go on."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def greet() -> None:
            with suppress(OSError):
                while True:
                    link, _ = listener.accept()
                    links.append(link)
                    link.sendall(b"SSH-2.0-OpenSSH_9.2\r\n")

        links: list[socket.socket] = []
        threading.Thread(target=greet, daemon=True).start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)
        for link in links:
            link.close()


def is_connecting(host: str) -> bool:
    return any(thread.name == f"connect {host}" for thread in threading.enumerate())


def test_a_closed_port_is_unreachable_at_once(server: Sshd, lane: Transport, opening: Opening) -> None:
    started = time.monotonic()
    with pytest.raises(Unreachable, match=r"(?i)refused"):
        opening(replace(host_at(server, lane), port=free_port()))(TRUE)
    assert time.monotonic() - started < 5


def test_a_host_that_takes_the_connection_and_is_silent_costs_the_connect_timeout(
    server: Sshd, lane: Transport, opening: Opening
) -> None:
    with silent_listener() as port:
        ask = opening(replace(host_at(server, lane, connect_timeout_s=2.0), port=port))
        started = time.monotonic()
        with pytest.raises(Unreachable):
            ask(TRUE)
        assert 1.5 < time.monotonic() - started < 5


def test_a_host_that_greets_and_lets_nobody_in_is_alive(server: Sshd, opening: Opening) -> None:
    for listener, answered in ((greeting_listener, True), (silent_listener, False)):
        with listener() as port:
            ask = opening(replace(host_at(server, Transport.NETMIKO, connect_timeout_s=2.0), port=port))
            with pytest.raises(Unreachable) as failed:
                ask(TRUE)
            assert failed.value.answered is answered, failed.value


def test_whoever_waits_while_another_tries_in_vain_has_the_failure_and_the_next_tries_anew(
    server: Sshd, opening: Opening
) -> None:
    with silent_listener() as port:
        ask = opening(replace(host_at(server, Transport.NETMIKO, connect_timeout_s=2.0), port=port))
        started = time.monotonic()
        connect_ahead(ask.nornir, ["dock-test"])
        wait_until(lambda: is_connecting("dock-test"), "the attempt in the background")
        with pytest.raises(Unreachable):
            ask(TRUE)
        assert time.monotonic() - started < 3.5
        with pytest.raises(Unreachable):
            ask(TRUE)
        assert time.monotonic() - started > 3.5


def test_what_was_connected_ahead_is_used(server: Sshd, opening: Opening) -> None:
    ask = opening(host_at(server, Transport.NETMIKO))
    connect_ahead(ask.nornir, ["dock-test"])
    wait_until(lambda: "Accepted publickey" in server.log, "the login in the background")
    ask(TRUE)
    assert server.log.count("Accepted publickey") == 1


def test_a_name_that_does_not_resolve_is_said(server: Sshd, lane: Transport, opening: Opening) -> None:
    with pytest.raises(Unreachable, match=r"(?i)resolve"):
        opening(replace(host_at(server, lane), hostname="dock-test.invalid"))(TRUE)


def test_a_link_that_breaks_names_the_command_and_the_next_run_connects_again(
    server: Sshd, lane: Transport, opening: Opening
) -> None:
    ask = opening(host_at(server, lane))
    ask(TRUE)
    mark = server.folder / "running"
    cutter = threading.Thread(target=server.cut_sessions_when, args=(mark.exists,))
    cutter.start()
    with pytest.raises(Unreachable, match="`long` was running"):
        ask(TRUE, Command("long", ("sh", "-c", f"touch {mark}; sleep 30")), Command("never", ("true",)))
    cutter.join()
    assert ask(TRUE)["true"].exit_code == 0


def test_a_machine_that_hangs_is_noticed_although_its_tcp_answers(
    server: Sshd, opening: Opening, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "QUIET_S", 1.0)
    ask = opening(host_at(server, Transport.NETMIKO))
    ask(TRUE)
    mark = server.folder / "running"

    def freeze() -> None:
        wait_until(mark.exists, "the command runs")
        for pid in server.sessions():
            os.kill(pid, signal.SIGSTOP)
            subprocess.run(["pkill", "-STOP", "-P", str(pid)], check=False)

    threading.Thread(target=freeze).start()
    started = time.monotonic()
    with pytest.raises(Unreachable, match="the connection was lost while `long` was running"):
        ask(Command("long", ("sh", "-c", f"touch {mark}; sleep 60"), timeout_s=120))
    assert time.monotonic() - started < 15


def test_a_long_quiet_command_is_no_lost_link(server: Sshd, opening: Opening, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "QUIET_S", 0.3)
    ask = opening(host_at(server, Transport.NETMIKO))
    assert ask(Command("long", ("sh", "-c", "sleep 2; echo done"))).text("long") == "done\n"


def test_a_login_shell_that_runs_nothing_is_explained(tmp_path: Path, lane: Transport, opening: Opening) -> None:
    server = Sshd(tmp_path, options=("ForceCommand echo This account is not available; exit 1",))
    try:
        with pytest.raises(FramingError, match="This account is not available"):
            opening(host_at(server, lane))(TRUE)
    finally:
        server.stop()


def test_noise_of_the_login_shell_is_ignored(tmp_path: Path, lane: Transport, opening: Opening) -> None:
    noisy = 'echo "Last login: today"; echo "$ " >&2; printf "no newline"; eval "$SSH_ORIGINAL_COMMAND"'
    server = Sshd(tmp_path, options=(f"ForceCommand {noisy}",))
    try:
        answer = opening(host_at(server, lane))(Command("it", ("echo", "mine")))["it"]
        assert (answer.stdout, answer.stderr) == ("mine\n", "")
    finally:
        server.stop()


def test_one_sweep_is_one_exec(server: Sshd, lane: Transport, opening: Opening) -> None:
    ask = opening(host_at(server, lane))
    before = execs["dock-test"]
    ask(*(Command(f"{n}", ("true",)) for n in range(9)))
    assert execs["dock-test"] - before == 1
    wait_until(lambda: "session" in server.log, "the log of the session")
    assert server.log.count("Starting session: command") == 1


def test_connections_are_gone_after_close(server: Sshd, lane: Transport) -> None:
    ask = Asking(nornir_of(host_at(server, lane)), host_at(server, lane))
    ask(TRUE)
    assert server.sessions()
    close_all(ask.nornir)
    close_all(ask.nornir)
    wait_until(lambda: not server.sessions(), "no connection is left")


@pytest.mark.skipif(os.geteuid() != 0, reason="the lock belongs to root")
@pytest.mark.parametrize("how", ["exclusive", "settled"])
def test_an_exclusive_batch_runs_to_its_end_without_us_and_holds_the_lock(
    server: Sshd, lane: Transport, opening: Opening, how: str
) -> None:
    begun, ended = server.folder / "begun", server.folder / "ended"
    talk = "for n in 1 2 3 4 5 6 7 8 9 10; do echo line; echo line >&2; sleep 0.2; done"
    ask = opening(host_at(server, lane))
    cutter = threading.Thread(target=server.cut_sessions_when, args=(begun.exists,))
    cutter.start()
    with pytest.raises(Unreachable):
        ask(
            Command("long", ("sh", "-c", f"touch {begun}; {talk}")),
            Command("after", ("touch", str(ended))),
            exclusive=True,
        )
    cutter.join()
    assert not ended.exists()
    outputs = ask(Command("look", ("ls", str(ended))), **{how: True})
    assert outputs["look"].exit_code == 0, "the second batch came before the end of the first"


@pytest.mark.skipif(os.geteuid() != 0, reason="the lock belongs to root")
def test_a_look_that_outlives_us_is_in_nobodys_way(server: Sshd, lane: Transport, opening: Opening) -> None:
    begun = server.folder / "looking"
    ask = opening(host_at(server, lane))
    cutter = threading.Thread(target=server.cut_sessions_when, args=(begun.exists,))
    cutter.start()
    with pytest.raises(Unreachable):
        ask(Command("long", ("sh", "-c", f"touch {begun}; exec sleep 20")), settled=True)
    cutter.join()
    began_at = time.monotonic()
    assert ask(TRUE, exclusive=True)[TRUE.name].exit_code == 0
    assert time.monotonic() - began_at < 15, "it waited for the look to end"


@pytest.mark.skipif(os.geteuid() != 0, reason="the lock belongs to root")
def test_a_daemon_started_by_an_exclusive_batch_does_not_keep_the_lock(
    server: Sshd, lane: Transport, opening: Opening
) -> None:
    ask = opening(host_at(server, lane))
    ask(
        Command("daemon", ("sh", "-c", "sleep 60 & true")),
        Command("fed", ("sh", "-c", "sleep 60 &"), stdin=b"x"),
        exclusive=True,
    )
    lock = ["flock", "-n", LOCK, "true"]
    wait_until(lambda: subprocess.run(lock, check=False).returncode == 0, "the lock is free")


@pytest.mark.skipif(os.geteuid() != 0, reason="the lock belongs to root")
def test_a_held_lock_is_a_clear_error(
    server: Sshd, lane: Transport, opening: Opening, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dockyard.framing.LOCK_WAIT_S", 1)
    with subprocess.Popen(["flock", LOCK, "sh", "-c", "echo held; exec sleep 60"], stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        try:
            with pytest.raises(RemoteError, match="another batch is still running on this host"):
                opening(host_at(server, lane))(Command("it", ("touch", str(server.folder / "trace"))), exclusive=True)
        finally:
            subprocess.run(["pkill", "-P", str(holder.pid)], check=False)
            holder.kill()
    assert not (server.folder / "trace").exists()


def test_sudo_without_a_password_and_without_a_terminal_is_refused(server: Sshd, opening: Opening) -> None:
    with pytest.raises(SudoRefused, match="no terminal") as caught:
        opening(host_at(server, Transport.NETMIKO, sudo=Sudo.PASSWORD))(TRUE)
    assert "DOCKYARD_SUDO_PASSWORD" in caught.value.advice


def test_a_password_file_that_others_can_read_is_refused(server: Sshd, opening: Opening) -> None:
    file = server.folder / "password"
    file.write_text("p4ss\n")
    file.chmod(0o644)
    with pytest.raises(SudoRefused, match="can be read by others"):
        opening(host_at(server, Transport.NETMIKO, sudo=Sudo.PASSWORD, sudo_password_file=file))(TRUE)


def test_a_host_without_sudo_is_a_clear_error(tmp_path: Path, lane: Transport, opening: Opening) -> None:
    server = Sshd(tmp_path, options=("SetEnv PATH=/nowhere",))
    try:
        with pytest.raises((SudoRefused, FramingError), match="not found"):
            opening(host_at(server, lane, sudo=Sudo.NOPASSWD))(TRUE)
    finally:
        server.stop()


@pytest.mark.parametrize("sudo", [Sudo.NOPASSWD, Sudo.PASSWORD])
def test_a_sudo_that_wants_a_terminal_is_no_wrong_password(
    tmp_path: Path, opening: Opening, sudo: Sudo, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKYARD_SUDO_PASSWORD", "p4ss")
    strict = tmp_path / "bin" / "sudo"
    strict.parent.mkdir()
    strict.write_text("#!/bin/sh\necho 'sudo: sorry, you must have a tty to run sudo' >&2\nexit 1\n")
    strict.chmod(0o755)
    server = Sshd(tmp_path, options=(f"SetEnv PATH={strict.parent}:/usr/bin:/bin",))
    try:
        with pytest.raises(SudoRefused, match="sudo wants a terminal") as caught:
            opening(host_at(server, Transport.NETMIKO, sudo=sudo))(TRUE)
        assert "!requiretty" in caught.value.advice
    finally:
        server.stop()


@pytest.fixture
def agent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Path], None]]:
    """An agent without keys; called with one (its passphrase is "secret"), it holds it."""
    socket_path, answer = tmp_path / "agent", tmp_path / "answer"
    answer.write_text("#!/bin/sh\necho secret\n")
    answer.chmod(0o700)
    monkeypatch.setenv("SSH_AUTH_SOCK", str(socket_path))
    asking = os.environ | {"SSH_ASKPASS": str(answer), "SSH_ASKPASS_REQUIRE": "force"}

    def hold(key: Path) -> None:
        subprocess.run(["ssh-add", "-q", key], env=asking, check=True, capture_output=True)

    with subprocess.Popen(["ssh-agent", "-D", "-a", socket_path], stdout=subprocess.DEVNULL) as process:
        wait_until(socket_path.exists, "the agent listens")
        yield hold
        process.terminate()


def test_a_key_with_a_passphrase_works_as_soon_as_the_agent_holds_it(
    server: Sshd, lane: Transport, opening: Opening, agent: Callable[[Path], None]
) -> None:
    key = make_key(server.identity, passphrase="secret")
    with pytest.raises(AuthenticationFailed, match="accepts none of our keys") as caught:
        opening(host_at(server, lane))(TRUE)
    assert f"ssh-add {key}. " in caught.value.advice
    agent(key)
    assert opening(host_at(server, lane))(TRUE)["true"].exit_code == 0


def test_the_only_default_key_may_have_a_passphrase(
    server: Sshd, opening: Opening, agent: Callable[[Path], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    home = server.folder / "home"
    (home / ".ssh").mkdir(parents=True)
    monkeypatch.setenv("HOME", str(home))
    make_key(server.identity, passphrase="secret").rename(home / ".ssh" / "id_ed25519")
    with pytest.raises(AuthenticationFailed) as caught:
        opening(host_at(server, Transport.NETMIKO, key_file=None))(TRUE)
    assert f"ssh-add {home}/.ssh/id_ed25519. " in caught.value.advice
    agent(home / ".ssh" / "id_ed25519")
    assert opening(host_at(server, Transport.NETMIKO, key_file=None))(TRUE)["true"].exit_code == 0


def test_stock_nornir_netmiko_tasks_work_on_the_same_connection(server: Sshd, opening: Opening) -> None:
    from nornir_netmiko.tasks import netmiko_send_command

    ask = opening(host_at(server, Transport.NETMIKO))
    prepare(ask.nornir)
    answer = ask.nornir.run(task=netmiko_send_command, command_string="echo from a shell")["dock-test"]
    assert answer[0].result.strip() == "from a shell"
    assert ask(TRUE)["true"].exit_code == 0
    assert server.log.count("Accepted publickey") == 1


def test_stock_nornir_scrapli_tasks_work_on_the_same_connection(server: Sshd, opening: Opening) -> None:
    from nornir_scrapli.tasks import send_command

    ask = opening(host_at(server, Transport.SYSTEM))
    prepare(ask.nornir)
    answer = ask.nornir.run(task=send_command, command="echo from a shell")["dock-test"]
    assert "from a shell" in answer[0].result
    assert ask(TRUE)["true"].exit_code == 0
    assert server.log.count("Accepted publickey") == 1
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore", ResourceWarning
        )  # scrapli leaves its end of the pseudo-terminal to the collector
        close_all(ask.nornir)
