from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from dockyard.errors import StepFailed, Unreachable
from dockyard.lease import _RELEASE, _RENEW, _TAKE, RENEW_EVERY_S, Holder, Lease, _this_process
from tests.unit.conftest import LocalCluster

REFUSAL = """\
now=1000
run=0b5d
owner=ada@laptop
process=machine/boot/4242/77
purpose=phase1_baseline
since=940
expires=1060
"""


def test_the_refusal_of_the_arbitrator_tells_who_and_for_how_long() -> None:
    assert Holder.of(REFUSAL) == Holder(
        run="0b5d",
        owner="ada@laptop",
        process="machine/boot/4242/77",
        purpose="phase1_baseline",
        age_s=60,
        expires_in_s=60,
    )


def held_by(process: str) -> Holder:
    return Holder.of(REFUSAL.replace("machine/boot/4242/77", process))


@pytest.mark.parametrize(
    ("machine", "boot", "pid", "started", "gone"),
    [
        (None, None, None, None, False),
        ("another machine", None, None, None, False),
        (None, "an earlier boot", None, None, True),
        (None, None, None, "a reused pid", True),
        (None, None, "4194305", None, True),
    ],
    ids=["alive", "elsewhere", "rebooted", "pid reused", "dead"],
)
def test_a_holder_is_gone_only_when_this_machine_can_see_it(
    machine: str | None, boot: str | None, pid: str | None, started: str | None, gone: bool
) -> None:
    here = _this_process()
    fields = [new or old for new, old in zip((machine, boot, pid, started), here.split("/"), strict=True)]
    assert held_by("/".join(fields)).is_gone(here, "ada@laptop") is gone
    assert held_by("/".join(fields)).is_gone(here, "eve@laptop") is False


def test_the_process_is_named_by_its_pid_and_start() -> None:
    assert _this_process().split("/")[2] == str(os.getpid())


SCRIPTS = {"take": _TAKE, "renew": _RENEW, "release": _RELEASE}


def arbitrator(folder: Path, verb: str, run: str, *, replaces: str = "-", ttl: int = 120) -> str:
    """What the arbitrator's own shell says to one request; empty when it agrees."""
    path = folder / "lib" / "lease"
    values = {"owner": "ada@laptop", "process": "m/b/1/2", "purpose": "test", "ttl": ttl, "replaces": replaces}
    script = SCRIPTS[verb].format(path=path, run=run, **values).replace("/run/dockyard.lease.lock", f"{folder}/lock")
    done = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode in {0, 75}, done.stderr
    assert (done.returncode == 75) == bool(done.stdout)
    return done.stdout


def test_one_run_holds_the_lease_until_it_gives_it_back(tmp_path: Path) -> None:
    assert arbitrator(tmp_path, "take", "one") == ""
    assert Holder.of(arbitrator(tmp_path, "take", "two")).run == "one"
    assert arbitrator(tmp_path, "renew", "one") == ""
    assert arbitrator(tmp_path, "release", "two") == ""
    assert Holder.of(arbitrator(tmp_path, "take", "two")).run == "one"
    assert arbitrator(tmp_path, "release", "one") == ""
    assert arbitrator(tmp_path, "take", "two") == ""


def test_a_lease_that_ran_out_is_free_and_is_not_renewed_behind_the_new_holder(tmp_path: Path) -> None:
    assert arbitrator(tmp_path, "take", "one", ttl=0) == ""
    assert arbitrator(tmp_path, "take", "two") == ""
    assert arbitrator(tmp_path, "renew", "one") != ""
    assert arbitrator(tmp_path, "release", "two") == ""
    assert arbitrator(tmp_path, "renew", "one") != "", "somebody else may have changed things in between"


def test_a_dead_holder_is_replaced_only_while_it_is_the_holder(tmp_path: Path) -> None:
    assert arbitrator(tmp_path, "take", "dead") == ""
    assert arbitrator(tmp_path, "take", "one", replaces="dead") == ""
    assert Holder.of(arbitrator(tmp_path, "take", "two", replaces="dead")).run == "one"


def test_a_lease_of_an_earlier_boot_counts_as_fresh_when_the_arbitrator_is_up(tmp_path: Path) -> None:
    """Its run may live: it renews within the time that every lease has, and what is not renewed ends then."""
    assert arbitrator(tmp_path, "take", "one") == ""
    lease = tmp_path / "lib" / "lease"
    lease.write_text(re.sub("boot=.*", "boot=an-earlier-one", lease.read_text()))
    up_s = int(float(Path("/proc/uptime").read_text().split()[0]))
    held = Holder.of(arbitrator(tmp_path, "take", "two", ttl=up_s + 100))
    assert (held.run, held.owner) == ("one", "ada@laptop")
    assert up_s <= held.age_s <= up_s + 60
    assert 0 < held.expires_in_s <= 100
    assert arbitrator(tmp_path, "renew", "one") == ""
    assert f"boot={Path('/proc/sys/kernel/random/boot_id').read_text().strip()}" in lease.read_text()
    lease.write_text(re.sub("boot=.*", "boot=an-earlier-one", lease.read_text()))
    assert arbitrator(tmp_path, "take", "two", ttl=0) == ""


def test_a_container_that_began_anew_counts_as_booted_though_its_boot_id_is_its_hosts(tmp_path: Path) -> None:
    assert arbitrator(tmp_path, "take", "one", ttl=10**7) == ""
    assert arbitrator(tmp_path, "take", "two", ttl=1) == ""


@pytest.mark.parametrize("line", ["since=", "since=soon", "expires=", "expires=9 9"])
def test_a_lease_that_somebody_damaged_is_free(tmp_path: Path, line: str) -> None:
    assert arbitrator(tmp_path, "take", "one") == ""
    lease = tmp_path / "lib" / "lease"
    lease.write_text(re.sub(f"{line.partition('=')[0]}=.*", line, lease.read_text()))
    assert arbitrator(tmp_path, "take", "two") == ""


def test_a_lease_without_its_last_newline_is_read(tmp_path: Path) -> None:
    assert arbitrator(tmp_path, "take", "one") == ""
    lease = tmp_path / "lib" / "lease"
    lease.write_text(lease.read_text().rstrip("\n"))
    assert Holder.of(arbitrator(tmp_path, "take", "two")).run == "one"


def test_a_lease_is_not_judged_by_a_clock_that_can_be_set() -> None:
    assert "date" not in "".join(SCRIPTS.values())


def test_a_torn_lease_blocks_nobody(tmp_path: Path) -> None:
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "lease").write_text("run=\nexpires=soon\n")
    assert arbitrator(tmp_path, "take", "one") == ""


class Asked(Lease):
    """A lease whose arbitrator is a list of answers: ``""`` grants."""

    def answers(self, *said: str) -> Asked:
        self.said = list(said)
        return self

    def _ask(self, script: str) -> str:
        return self.said.pop(0)

    def age(self, seconds: float) -> None:
        self._granted_at -= seconds


@pytest.fixture
def asked(cluster: LocalCluster) -> Asked:
    return Asked(cluster.nornir, "dock-load", "test")


def test_a_lease_that_was_just_granted_is_not_asked_for_again(asked: Asked) -> None:
    with asked.answers("", "", "", ""):
        asked.hold()
        assert len(asked.said) == 3
        asked.age(RENEW_EVERY_S)
        asked.hold()
        asked.hold()
        assert len(asked.said) == 2


def test_without_the_arbitrator_it_says_what_a_person_may_do(asked: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(_script: str) -> str:
        raise Unreachable("dock-load", "no answer")

    monkeypatch.setattr(asked, "_ask", away)
    with pytest.raises(Unreachable) as refused, asked:
        pass
    assert '"Disaster without dock-load"' in refused.value.advice


def test_a_lease_that_was_lost_stays_lost(asked: Asked) -> None:
    with asked.answers("", "somebody else took it", "", ""):
        asked.age(RENEW_EVERY_S)
        for _ in range(2):
            with pytest.raises(StepFailed, match="lost to another run"):
                asked.hold()
