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
from tasks.drbd.state import Role
from tests.unit.replicas import MIRROR, PROD, observed, records, topology
from tests.unit.test_drbd_checks import demoted

LINE = "[  130.250000] dock-prod kernel: drbd data dock-mirror: conn( Connected -> NetworkFailure )"


def seen(lost_us: int, *, writer: str = PROD) -> Observed:
    parting = Observed({PROD: {PARTING.name: Parting(let_go_us=120_000_000, lost_us=lost_us)}})
    return observed(demoted(peer_role=Role.SECONDARY), records(writer, 2)).merged(parting)


def test_a_line_that_broke_while_the_writer_let_go_is_no_proof() -> None:
    (found,) = drbd.check_let_go(topology(), seen(130_250_000), to=MIRROR)
    assert (found.host, found.fault) == (
        PROD,
        "the line broke while it let go: DRBD 9 may not know what has not arrived",
    )
    assert "failover.py --to dock-prod. Then, before anything else, `systemctl start" in found.advice


@pytest.mark.parametrize("lost_us", [0, 119_999_999])
def test_what_broke_before_the_last_write_is_known_to_drbd(lost_us: int) -> None:
    assert list(check_line_held(topology(), seen(lost_us), to=MIRROR)) == []


def test_who_was_named_already_was_proven_then() -> None:
    assert list(check_line_held(topology(), seen(130_250_000, writer=MIRROR), to=MIRROR)) == []


def test_nobody_is_named_when_the_log_was_not_read() -> None:
    with pytest.raises(NotObserved, match="nobody looked at parting"):
        drbd.check_let_go(topology(), observed(demoted(peer_role=Role.SECONDARY)), to=MIRROR)


@pytest.mark.parametrize(
    ("version", "log", "parting"),
    [
        ("9.2.16", LINE, Parting(let_go_us=120_000_000, lost_us=130_250_000)),
        ("9.2.16", "", Parting(let_go_us=120_000_000, lost_us=0)),
        ("8.4.11", LINE, Parting(let_go_us=0, lost_us=0)),
    ],
)
def test_the_probe_says_what_systemd_and_the_kernel_say(
    tmp_path: Path, version: str, log: str, parting: Parting
) -> None:
    (tmp_path / "version").write_text(f"{version}\n")
    bodies = {"systemctl": "echo 120000000", "journalctl": f"echo '{log}'" if log else "exit 1"}
    for name, body in bodies.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{body}\n")
        (tmp_path / name).chmod(0o755)
    (command,) = PARTING.probes(topology(), topology().host(PROD))
    script = command.argv[-1].replace("/sys/module/drbd/version", str(tmp_path / "version"))
    env = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    ran = subprocess.run(["sh", "-c", script], env=env, capture_output=True, text=True, check=True)
    assert read_parting(ran.stdout) == parting


def test_what_it_did_not_print_is_refused() -> None:
    with pytest.raises(ParseError):
        read_parting("lost||soon\n")
