"""A host key that is not known stops everything before we say who we are."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from dockyard.errors import AuthenticationFailed, HostKeyError
from dockyard.remote import Command
from dockyard.topology import Transport
from tests.ssh.sshd import Opening, Sshd, fingerprint, host_at, make_key, wait_until

TRUE = Command("true", ("true",))


def refused(server: Sshd, lane: Transport, opening: Opening) -> HostKeyError:
    with pytest.raises(HostKeyError) as caught:
        opening(host_at(server, lane))(TRUE)
    wait_until(lambda: "[preauth]" in server.log, "the server notes the end of the connection")
    assert not [line for line in server.log.splitlines() if "user" in line or "publickey" in line], "we said who we are"
    assert caught.value.advice.count("python runbooks/trust.py dock-test") == 1
    return caught.value


def test_a_known_key_is_accepted(server: Sshd, lane: Transport, opening: Opening) -> None:
    assert opening(host_at(server, lane))(TRUE)["true"].exit_code == 0


@pytest.mark.parametrize("how", ["empty", "missing", "other port"])
def test_an_unknown_key_is_refused(server: Sshd, lane: Transport, opening: Opening, how: str) -> None:
    line = server.known_hosts.read_text()
    server.known_hosts.unlink()
    if how != "missing":
        server.known_hosts.write_text("" if how == "empty" else line.replace(f"]:{server.port}", "]:1"))
    error = refused(server, lane, opening)
    assert "the host key is unknown" in str(error)
    assert error.fingerprint == fingerprint(server.host_keys["ed25519"])
    assert error.fingerprint in str(error)


def test_a_changed_key_is_refused(server: Sshd, lane: Transport, opening: Opening) -> None:
    expected = fingerprint(server.host_keys["ed25519"])
    server.stop()
    make_key(server.host_keys["ed25519"])
    server.start()
    error = refused(server, lane, opening)
    assert "THE HOST KEY HAS CHANGED" in str(error)
    assert error.fingerprint == fingerprint(server.host_keys["ed25519"])
    assert expected in str(error)


def test_a_revoked_key_is_refused(server: Sshd, lane: Transport, opening: Opening) -> None:
    line = server.known_hosts.read_text()
    server.known_hosts.write_text(line + "@revoked " + line)
    assert "THE HOST KEY IS REVOKED" in str(refused(server, lane, opening))


def test_hashed_names_and_patterns_are_understood(server: Sshd, lane: Transport, opening: Opening) -> None:
    subprocess.run(["ssh-keygen", "-q", "-H", "-f", server.known_hosts], check=True, capture_output=True)
    assert "127.0.0.1" not in server.known_hosts.read_text()
    assert opening(host_at(server, lane))(TRUE)["true"].exit_code == 0
    server.pin()
    server.known_hosts.write_text(server.known_hosts.read_text().replace("[127.0.0.1]", "[127.0.0.*]"))
    assert opening(host_at(server, lane))(TRUE)["true"].exit_code == 0


@pytest.mark.parametrize("known", ["ed25519", "ecdsa", "rsa"])
def test_a_host_with_several_keys_shows_the_one_that_we_know(
    tmp_path: Path, lane: Transport, opening: Opening, known: str
) -> None:
    server = Sshd(tmp_path, host_keys=("ed25519", "ecdsa", "rsa"))
    try:
        server.pin(known)
        assert opening(host_at(server, lane))(TRUE)["true"].exit_code == 0
    finally:
        server.stop()


def test_a_refused_login_is_no_host_key_error(server: Sshd, lane: Transport, opening: Opening, tmp_path: Path) -> None:
    stranger = make_key(tmp_path / "stranger")
    with pytest.raises(AuthenticationFailed, match="accepts none of our keys"):
        opening(host_at(server, lane, key_file=stranger))(TRUE)


@pytest.mark.skipif(shutil.which("ssh-keygen") is None, reason="no ssh-keygen")
def test_host_certificates_work_over_openssh_and_are_explained_otherwise(
    server: Sshd, lane: Transport, opening: Opening, tmp_path: Path
) -> None:
    authority, key = make_key(tmp_path / "authority"), server.host_keys["ed25519"].with_suffix(".pub")
    sign = ["ssh-keygen", "-q", "-s", str(authority), "-I", "dock-test", "-h", "-n", "127.0.0.1", str(key)]
    subprocess.run(sign, check=True, capture_output=True)
    server.stop()
    server._options = (f"HostCertificate {key.with_name('host_ed25519-cert.pub')}",)
    server.start()
    server.known_hosts.write_text("@cert-authority * " + authority.with_suffix(".pub").read_text())
    if lane is Transport.SYSTEM:
        assert opening(host_at(server, lane))(TRUE)["true"].exit_code == 0
    else:
        assert "transport: system" in refused(server, lane, opening).advice
