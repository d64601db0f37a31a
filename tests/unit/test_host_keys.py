"""known_hosts, read and written; ssh-keygen(1) is the judge where it can be."""

from __future__ import annotations

import base64
import shutil
import stat
import subprocess
from pathlib import Path

import pytest

from dockyard.host_keys import HostKey, KnownHosts, Trust, name_in_file, read_known_hosts, replace_keys


def key(seed: str, kind: str = "ssh-ed25519") -> HostKey:
    return HostKey(kind, seed.encode() * 8)


A, B, RSA = key("a"), key("b"), key("r", "ssh-rsa")


def test_a_port_other_than_22_is_part_of_the_name() -> None:
    assert name_in_file("Dock-Prod", 22) == "dock-prod"
    assert name_in_file("2001:db8::1", 2222) == "[2001:db8::1]:2222"


@pytest.mark.parametrize(
    ("line", "trust"),
    [
        (A.line("dock-prod"), Trust.KNOWN),
        (A.line("other,Dock-Prod,192.0.2.1"), Trust.KNOWN),
        (A.line("dock-*"), Trust.KNOWN),
        (A.line("dock-?rod"), Trust.KNOWN),
        (A.line("dock-*,!dock-prod"), Trust.UNKNOWN),
        (A.line("[dock-prod]:2222"), Trust.UNKNOWN),
        (B.line("dock-prod"), Trust.CHANGED),
        (RSA.line("dock-prod"), Trust.CHANGED),
        ("@revoked " + A.line("*"), Trust.REVOKED),
        ("@cert-authority " + A.line("*"), Trust.UNKNOWN),
        ("# " + A.line("dock-prod"), Trust.UNKNOWN),
        ("dock-prod ssh-ed25519 not!base64", Trust.UNKNOWN),
        ("dock-prod", Trust.UNKNOWN),
        ("", Trust.UNKNOWN),
    ],
)
def test_what_a_line_says_of_a_key(line: str, trust: Trust) -> None:
    assert KnownHosts.parse(f"# comment\n\n{line}\n").trust_of("dock-prod", A) is trust


def test_one_of_several_known_keys_is_enough_and_revoking_one_wins() -> None:
    known = KnownHosts.parse("\n".join([RSA.line("h"), A.line("h"), B.line("h"), "@revoked " + B.line("h")]))
    assert known.keys_of("h") == (RSA, A)
    assert known.trust_of("h", A) is Trust.KNOWN
    assert known.trust_of("h", B) is Trust.REVOKED


def test_an_authority_alone_makes_no_key_known() -> None:
    known = KnownHosts.parse("@cert-authority " + A.line("*.example.org"))
    assert known.has_authority("a.example.org")
    assert not known.has_authority("a.example.com")
    assert not known.keys_of("a.example.org")


@pytest.mark.skipif(shutil.which("ssh-keygen") is None, reason="no ssh-keygen")
def test_hashed_names_and_fingerprints_are_those_of_ssh_keygen(tmp_path: Path) -> None:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / "key"], check=True)
    kind, blob, *_ = (tmp_path / "key.pub").read_text().split()
    shown = HostKey(kind, base64.b64decode(blob))
    file = tmp_path / "known_hosts"
    file.write_text(shown.line("[dock-prod]:2222") + "\n")
    subprocess.run(["ssh-keygen", "-q", "-H", "-f", file], check=True, capture_output=True)
    assert "dock-prod" not in file.read_text()
    assert read_known_hosts(file).trust_of("[dock-prod]:2222", shown) is Trust.KNOWN
    assert read_known_hosts(file).trust_of("dock-prod", shown) is Trust.UNKNOWN
    listed = subprocess.run(["ssh-keygen", "-lf", tmp_path / "key.pub"], check=True, capture_output=True, text=True)
    assert shown.fingerprint in listed.stdout
    replace_keys(file, "[dock-prod]:2222", [B])
    assert read_known_hosts(file).keys_of("[dock-prod]:2222") == (B,)


def test_a_missing_file_knows_nobody(tmp_path: Path) -> None:
    assert read_known_hosts(tmp_path / "none").trust_of("h", A) is Trust.UNKNOWN


def test_a_file_that_changes_is_read_again(tmp_path: Path) -> None:
    file = tmp_path / "known_hosts"
    file.write_text(A.line("h") + "\n")
    assert read_known_hosts(file).keys_of("h") == (A,)
    replace_keys(file, "h", [B, RSA])
    assert read_known_hosts(file).keys_of("h") == (B, RSA)


def test_replacing_keys_leaves_everything_else(tmp_path: Path) -> None:
    file = tmp_path / "ssh" / "known_hosts"
    file.parent.mkdir()
    before = ["# mine", "", A.line("other,h") + " note", A.line("h"), "@revoked " + B.line("h"), A.line("h*")]
    file.write_text("\n".join(before))
    replace_keys(file, "h", [RSA])
    kept = ["# mine", "", A.line("other") + " note", "@revoked " + B.line("h"), A.line("h*"), RSA.line("h")]
    assert file.read_text().splitlines() == kept
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert [path.name for path in file.parent.iterdir()] == ["known_hosts"]


def test_a_new_file_and_its_folder_are_made_for_the_owner_alone(tmp_path: Path) -> None:
    file = tmp_path / "new" / "known_hosts"
    replace_keys(file, "h", [A])
    assert file.read_text() == A.line("h") + "\n"
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700


def test_a_linked_file_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "real").write_text("")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    replace_keys(tmp_path / "link", "h", [A])
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real").read_text() == A.line("h") + "\n"
