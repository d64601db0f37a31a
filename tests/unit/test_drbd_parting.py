"""Whether the line held while the old writer let go: of DRBD 9 alone, and as the kernel's log has it."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from dockyard.errors import NotObserved, ParseError
from dockyard.observe import Observed
from tasks import drbd
from tasks.drbd.parting import PARTING, Parting, check_line_held, read_parting
from tasks.drbd.state import Disk, Role
from tests.unit.replicas import MIRROR, PROD, observed, records, resource, topology
from tests.unit.test_drbd_checks import demoted, of

DEMOTED = "drbd data: role( Primary -> Secondary ) [secondary]"
LOST = "drbd data dock-mirror: conn( Connected -> NetworkFailure ) peer( Secondary -> Unknown )"
BOOT = "1 Linux version 6.12.48"
TIE_BREAKER = "drbd data dock-load: conn( Connected -> NetworkFailure )"


def seen(lost_us: int, *, writer: str = PROD) -> Observed:
    parting = Observed({PROD: {PARTING.name: Parting(let_go_us=120_000_000, lost_us=lost_us)}})
    return observed(demoted(peer_role=Role.SECONDARY), records(writer, 2)).merged(parting)


def test_a_line_that_broke_while_the_writer_let_go_is_no_proof() -> None:
    (found,) = drbd.check_let_go(topology(), seen(130_250_000), to=MIRROR)
    assert (found.host, found.fault) == (
        PROD,
        "the line broke while it let go: DRBD 9 may not know what has not arrived",
    )
    assert "failover.py --to dock-prod. Then, before anything else, on the writer: `systemctl start" in found.advice


@pytest.mark.parametrize("lost_us", [0, 119_999_999])
def test_what_broke_before_the_last_write_is_known_to_drbd(lost_us: int) -> None:
    assert list(check_line_held(topology(), seen(lost_us), to=MIRROR)) == []


def test_who_was_named_and_told_was_proven_then() -> None:
    assert list(check_line_held(topology(), seen(130_250_000, writer=MIRROR), to=MIRROR)) == []


def test_an_old_writer_that_was_not_told_may_have_taken_the_storage_back() -> None:
    told = {**records(MIRROR, 2), PROD: records(PROD, 1)[PROD]}
    parting = Observed({PROD: {PARTING.name: Parting(let_go_us=1, lost_us=2)}})
    view = observed(demoted(peer_role=Role.SECONDARY), told).merged(parting)
    (found,) = check_line_held(topology(), view, to=MIRROR)
    assert "`systemctl start dockyard-storage.service` on it, which was not told yet" in found.advice


def test_a_writer_without_a_disk_has_read_behind_its_last_write() -> None:
    parting = Observed({PROD: {PARTING.name: Parting(let_go_us=1, lost_us=2)}})
    diskless = of(PROD, resource=resource(disk=Disk.DISKLESS, peer_role=Role.SECONDARY))
    view = observed(diskless(demoted(peer_role=Role.SECONDARY)), records(PROD, 2)).merged(parting)
    assert list(check_line_held(topology(), view, to=MIRROR)) == []


def test_nobody_is_named_when_the_log_was_not_read() -> None:
    with pytest.raises(NotObserved, match="nobody looked at parting"):
        drbd.check_let_go(topology(), observed(demoted(peer_role=Role.SECONDARY)), to=MIRROR)


JOURNALCTL = """\
[ "$*" = "--boot --no-pager --quiet --output=export _TRANSPORT=kernel" ] && pattern=. end=head || end=tail
for word do case $word in --grep=*) pattern=${word#--grep=} ;; esac; done
case "$*" in *--boot*--output=export*--lines=1*_TRANSPORT=kernel* | *=kernel) ;; *) exit 2 ;; esac
line=$(grep -E "$pattern" "$LOG" | $end -n 1)
[ -n "$line" ] || exit 1
printf '__CURSOR=x\\n__MONOTONIC_TIMESTAMP=%s\\n_TRANSPORT=kernel\\nMESSAGE=%s\\n\\n' "${line%% *}" "${line#* }"
"""
SYSTEMCTL = """\
[ "$*" = "show --property=ActiveExitTimestampMonotonic --value -- dockyard-storage.service" ] || exit 2
cat "$STOPPED"
"""


def printed(folder: Path, *log: str, version: str = "9.2.16", stopped: str = "120") -> subprocess.CompletedProcess[str]:
    """What the probe prints on a host with this kernel log (its lines begin with the time) and this version of DRBD."""
    for name, text in {"version": f"{version}\n", "log": "\n".join(log) + "\n", "stopped": f"{stopped}\n"}.items():
        (folder / name).write_text(text)
    for name, body in {"systemctl": SYSTEMCTL, "journalctl": JOURNALCTL}.items():
        (folder / name).write_text(f"#!/bin/sh\n{body}\n")
        (folder / name).chmod(0o755)
    (command,) = PARTING.probes(topology(), topology().host(PROD))
    script = command.argv[-1].replace("/sys/module/drbd/version", str(folder / "version"))
    env = {"PATH": f"{folder}:{os.environ['PATH']}", "LOG": str(folder / "log"), "STOPPED": str(folder / "stopped")}
    return subprocess.run(["sh", "-c", script], env=env, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("log", "parting"),
    [
        ((BOOT, f"121 {DEMOTED}", f"130 {LOST}"), Parting(let_go_us=120, lost_us=130)),
        ((BOOT, f"90 {LOST}", f"121 {DEMOTED}"), Parting(let_go_us=120, lost_us=90)),
        ((BOOT, f"121 {DEMOTED}", f"130 {TIE_BREAKER}"), Parting(let_go_us=120, lost_us=0)),
        ((BOOT, f"110 {DEMOTED}", f"115 {LOST}"), Parting(let_go_us=110, lost_us=115)),
        ((BOOT, f"130 {LOST}"), Parting(let_go_us=0, lost_us=130)),
    ],
    ids=["broke", "before", "only the tie-breaker", "demoted by hand, stopped later", "it had only waited"],
)
def test_the_probe_says_what_systemd_and_the_kernel_say(tmp_path: Path, log: tuple[str, ...], parting: Parting) -> None:
    assert read_parting(printed(tmp_path, *log).stdout) == parting


def test_nothing_is_asked_with_8_4(tmp_path: Path) -> None:
    ran = printed(tmp_path, f"130 {LOST}", version="8.4.11")
    assert (ran.stdout, ran.stderr) == ("", "")
    assert read_parting(ran.stdout) == Parting()


def test_a_host_that_never_had_the_storage_since_its_boot_lost_nothing(tmp_path: Path) -> None:
    assert not read_parting(printed(tmp_path, f"130 {LOST}", stopped="0").stdout).broke


def test_a_log_that_does_not_go_back_is_no_proof(tmp_path: Path) -> None:
    with pytest.raises(ParseError, match="does not go back to the moment"):
        read_parting(printed(tmp_path, f"130 {LOST}").stdout)


@pytest.mark.parametrize("first", ["", "first||\n", "first||0\n"])
def test_a_host_that_keeps_no_log_of_the_kernel_proves_nothing(first: str) -> None:
    with pytest.raises(ParseError, match="does not go back to the moment"):
        read_parting(f"stopped||120\n{first}")


def test_a_systemd_that_does_not_answer_is_no_proof(tmp_path: Path) -> None:
    with pytest.raises(ParseError, match="does not say when"):
        read_parting(printed(tmp_path, BOOT, f"121 {DEMOTED}", stopped="").stdout)


@pytest.mark.parametrize("text", ["lost||soon\n", "lost||130\n"])
def test_what_it_did_not_print_is_refused(text: str) -> None:
    with pytest.raises(ParseError):
        read_parting(text)
