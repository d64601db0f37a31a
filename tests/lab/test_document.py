"""The printed procedure is followed, command by command, over ssh alone."""

from __future__ import annotations

import re
import shlex
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from lab import Lab
from lab.machines import spec_of
from lab.ssh import ssh_arguments
from tests.lab.conftest import Runbooks
from tests.printed import ANY, Block, blocks, chapters, fits

PROD, MIRROR, LOAD = "dock-prod", "dock-mirror", "dock-load"


@dataclass
class Person:
    """Somebody with the page, a terminal and an ssh key. Types what it says, and compares."""

    page: str
    lab: Lab
    shown: list[str] = field(default_factory=list)
    """The lines for another host that were printed so far."""

    def follow(self, chapter: str) -> None:
        """Do one chapter from its beginning to its end."""
        for block in blocks(chapters(self.page)[chapter]):
            self._do(block)

    def _do(self, block: Block) -> None:
        deadline = time.monotonic() + 400
        while not fits(seen := self._type(block), block.expected("8.4")):
            assert block.again, f"on {block.host}:\n{block.command}\nprinted:\n{seen}"
            assert time.monotonic() < deadline, f"on {block.host} at last:\n{seen}"
            time.sleep(1)
        self.shown += [line for line in seen.splitlines() if line.startswith("printf ")]

    def _type(self, block: Block) -> str:
        lines = [self._filled(line) for line in block.command.splitlines()]
        ran = subprocess.run(
            self._login(block.host),
            input="\n".join(lines) + "\n",
            capture_output=True,
            text=True,
            timeout=400,
            check=False,
        )
        return ran.stdout + ran.stderr

    def _filled(self, line: str) -> str:
        """A line that another host printed is typed as it was printed, not as the page shows its form."""
        if ANY not in line:
            return line
        assert fits(self.shown[-1], line), f"{line}: shown was {self.shown[-1]}"
        return self.shown[-1]

    def _login(self, host: str) -> list[str]:
        """The line of the page, with the lab's own key, then ``sudo -i``."""
        found = re.search(rf"^\| {host} \| `(ssh [^`]+)` \|", self.page, flags=re.MULTILINE)
        assert found, f"the page does not say how to log in to {host}"
        printed = shlex.split(found[1])
        options = ssh_arguments(spec_of(host), self.lab.paths)
        assert printed[1:] == options[-3:], "the page names another port, user or address"
        return [*options, "--", "sudo -i"]


@pytest.fixture
def person(replicated: Lab, runbooks: Runbooks, tmp_path: Path) -> Person:
    runbooks.succeed("document", "--output", str(tmp_path))
    return Person((tmp_path / "failover.en.md").read_text(), replicated)


@pytest.mark.drill
def test_the_printed_handover_ends_with_the_data_on_the_other_side(person: Person, runbooks: Runbooks) -> None:
    prod, mirror = person.lab[PROD], person.lab[MIRROR]
    prod.succeed("seq 20000 >/srv/data/before; sync /srv/data/before", sudo=True)
    wanted = prod.succeed("sha256sum /srv/data/before", sudo=True)
    person.follow("Hand over: from dock-prod to dock-mirror")
    assert mirror.succeed("sha256sum /srv/data/before", sudo=True) == wanted
    prod.fail("mountpoint -q /srv/data")
    assert runbooks.succeed("health", "--json").faults == []
    assert runbooks.succeed("phase2_drbd", "--yes", "--json").changes == {}
    known = runbooks.succeed("failover", "--to", MIRROR, "--yes", "--json").changes
    assert known == {"dock-load": ["record that switchover passed"]}, "what was done by hand is only written down"
    assert runbooks.succeed("failover", "--to", MIRROR, "--yes", "--json").changes == {}


@pytest.mark.drill
def test_the_printed_disaster_and_its_way_back(person: Person, runbooks: Runbooks) -> None:
    prod, mirror = person.lab[PROD], person.lab[MIRROR]
    prod.succeed("seq 20000 >/srv/data/before; sync /srv/data/before", sudo=True)
    wanted = prod.succeed("sha256sum /srv/data/before", sudo=True)
    mirror.wait_until_succeeds("drbdsetup status --verbose --statistics data | grep -q out-of-sync:0", sudo=True)
    prod.crash()
    mirror.wait_until_succeeds("drbdadm cstate data | grep -qx WFConnection", sudo=True)
    person.follow("Disaster: dock-prod is gone, dock-mirror takes over")
    assert mirror.succeed("sha256sum /srv/data/before", sudo=True) == wanted
    mirror.succeed("echo after >/srv/data/after; sync /srv/data/after", sudo=True)

    prod.start()
    person.follow("After the disaster: dock-prod comes back")
    prod.fail("mountpoint -q /srv/data")
    assert runbooks.succeed("health", "--json").faults == []
    assert runbooks.succeed("phase2_drbd", "--yes", "--json").changes == {}

    person.follow("Hand over: from dock-mirror to dock-prod")
    assert prod.succeed("cat /srv/data/after", sudo=True) == "after\n"
    assert prod.succeed("sha256sum /srv/data/before", sudo=True) == wanted
    assert runbooks.succeed("health", "--json").faults == []


@pytest.mark.drill
def test_the_printed_disaster_without_the_arbitrator(person: Person, runbooks: Runbooks) -> None:
    prod, mirror, load = (person.lab[host] for host in (PROD, MIRROR, LOAD))
    prod.crash()
    load.crash()
    mirror.wait_until_succeeds("drbdadm cstate data | grep -qx WFConnection", sudo=True)
    chapter = blocks(chapters(person.page)["Disaster without dock-load: dock-mirror is the only one left"])
    for block in chapter:
        if block.host == LOAD:
            load.start()
        person._do(block)
    prod.start()
    person.follow("After the disaster: dock-prod comes back")
    mirror.succeed("mountpoint -q /srv/data")
    assert runbooks.succeed("health", "--json").faults == []
