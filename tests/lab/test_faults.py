"""What can go wrong on the way: each gives one clear error, and nothing is half done."""

from __future__ import annotations

from pathlib import Path

import pytest

from lab import Lab
from tests.lab.conftest import Ran, Runbooks, pin_elsewhere, replace_in

DROP_A_NAME = "sed -i '/grafana/d' /etc/hosts"
NAMES = ("--yes", "--only", "names into")


def said(ran: Ran, exit_code: int, *words: str) -> None:
    assert ran.exit_code == exit_code, str(ran)
    for word in words:
        assert word in ran.stdout, f"{word!r} is missing\n{ran}"


def test_a_wrong_sudo_password_is_tried_once(meshed: Lab, runbooks: Runbooks, inventory: Path, tmp_path: Path) -> None:
    wrong = tmp_path / "password"
    wrong.touch(mode=0o600)
    wrong.write_text("hunter2\n")
    replace_in(inventory / "hosts.yaml", "$XDG_CACHE_HOME/dockyard/lab/sudo_password", str(wrong))
    count = "journalctl -q -t sudo --grep 'authentication failure; log[n]ame' | wc -l"  # not this command itself
    before = int(meshed["dock-edge"].succeed(count, sudo=True))
    ran = runbooks.run("phase1_baseline", *NAMES, "--inventory", str(inventory))
    said(ran, 3, "dock-edge", "sudo", "password")
    assert int(meshed["dock-edge"].succeed(count, sudo=True)) - before == 1
    assert "hunter2" not in ran.stdout + ran.stderr


def test_a_full_disk_leaves_the_old_file_whole(meshed: Lab, runbooks: Runbooks) -> None:
    mirror = meshed["dock-mirror"]
    mirror.succeed(DROP_A_NAME, sudo=True)
    before = mirror.succeed("sha256sum /etc/hosts")
    mirror.succeed(
        "fallocate -l $(( $(stat -f -c '%f * %S' /) )) /fill || true; cat /dev/zero >>/fill || true", sudo=True
    )
    try:
        said(runbooks.run("phase1_baseline", *NAMES), 1, "dock-mirror", "write /etc/hosts", "No space left on device")
        assert mirror.succeed("sha256sum /etc/hosts") == before
    finally:
        mirror.succeed("rm /fill", sudo=True)
    assert runbooks.succeed("phase1_baseline", *NAMES, "--json").changes == {"dock-mirror": ["write /etc/hosts"]}


@pytest.mark.drill
def test_a_file_that_cannot_be_replaced_is_named(meshed: Lab, runbooks: Runbooks) -> None:
    mirror = meshed["dock-mirror"]
    mirror.succeed(f"{DROP_A_NAME} && chattr +i /etc/hosts", sudo=True)
    try:
        said(runbooks.run("phase1_baseline", *NAMES), 1, "dock-mirror", "write /etc/hosts", "Operation not permitted")
        assert mirror.succeed("ls -a /etc | grep -c '^.dockyard' || true") == "0\n"
    finally:
        mirror.succeed("chattr -i /etc/hosts", sudo=True)
    runbooks.succeed("phase1_baseline", *NAMES)


@pytest.mark.drill
def test_broken_markers_are_an_error_and_no_guess(meshed: Lab, runbooks: Runbooks) -> None:
    mirror = meshed["dock-mirror"]
    mirror.succeed("cp -p /etc/hosts /root/hosts && sed -i '/END DOCKYARD/d' /etc/hosts", sudo=True)
    before = mirror.succeed("sha256sum /etc/hosts")
    try:
        said(
            runbooks.run("phase1_baseline", *NAMES), 1, "dock-mirror", "'# END DOCKYARD' nowhere", "Nothing was written"
        )
        assert mirror.succeed("sha256sum /etc/hosts") == before
    finally:
        mirror.succeed("mv /root/hosts /etc/hosts", sudo=True)


@pytest.mark.drill
def test_an_endpoint_that_does_not_resolve_changes_nothing(meshed: Lab, runbooks: Runbooks, inventory: Path) -> None:
    replace_in(inventory / "hosts.yaml", "endpoint: 10.99.0.13", "endpoint: nowhere.invalid")
    hashes = "sha256sum /etc/wireguard/wg0.conf"
    before = {host: meshed[host].succeed(hashes, sudo=True) for host in ("dock-prod", "dock-load")}
    ran = runbooks.run("phase1_baseline", "--yes", "--inventory", str(inventory))
    said(ran, 1, "the endpoint nowhere.invalid does not resolve", "Nothing was written")
    assert {host: meshed[host].succeed(hashes, sudo=True) for host in before} == before


def test_a_changed_host_key_stops_before_the_login(
    meshed: Lab, runbooks: Runbooks, inventory: Path, tmp_path: Path
) -> None:
    known = tmp_path / "known_hosts"
    pinned = meshed.paths.known_hosts.read_text().splitlines()
    key_of_dash = next(line.split()[2] for line in pinned if ":22101" in line)
    known.write_text(
        "\n".join(line.replace(line.split()[2], key_of_dash) if ":22102" in line else line for line in pinned)
    )
    pin_elsewhere(inventory, known)
    logins = "journalctl -q -t sshd -t sshd-session | grep -c 'Accepted publickey' || true"
    before = meshed["dock-mirror"].succeed(logins, sudo=True), meshed["dock-prod"].succeed(logins, sudo=True)
    ran = runbooks.run("health", "--inventory", str(inventory))
    said(ran, 3, "dock-prod", "SHA256:", "trust.py")
    after = meshed["dock-mirror"].succeed(logins, sudo=True), meshed["dock-prod"].succeed(logins, sudo=True)
    assert int(after[1]) - int(before[1]) == 1, "only this test's own login"
    assert int(after[0]) - int(before[0]) == 2, "the log shows logins"
    assert runbooks.run("trust", "--yes", "--inventory", str(inventory)).exit_code != 0
    assert known.read_text().count(key_of_dash) == 2, "a changed key is never pinned without a person"


@pytest.mark.drill
def test_an_unknown_host_key_shows_how_to_pin_it(
    meshed: Lab, runbooks: Runbooks, inventory: Path, tmp_path: Path
) -> None:
    known = tmp_path / "known_hosts"
    pin_elsewhere(inventory, known)
    said(runbooks.run("health", "--inventory", str(inventory)), 3, "SHA256:", "trust.py")
    runbooks.succeed("trust", "--yes", "--inventory", str(inventory))
    assert len(known.read_text().splitlines()) >= len(meshed.machines)
    runbooks.succeed("health", "--inventory", str(inventory))
