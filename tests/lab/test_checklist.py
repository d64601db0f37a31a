"""The checklist on real machines: open boxes say why, and what is done ticks them."""

from __future__ import annotations

from pathlib import Path

import pytest

from lab import Lab
from tests.lab.conftest import Ran, Runbooks


@pytest.fixture(scope="session")
def runbooks(everything: Runbooks) -> Runbooks:
    return everything


def marks(ran: Ran, phase: int) -> dict[str, str]:
    return {row["box"]: row["mark"] for row in ran.document["tables"]["checklist"] if row["phase"] == str(phase)}


@pytest.mark.drill
def test_phase_1_is_ticked_when_it_is_built_and_its_documents_lie_there(
    meshed: Lab, runbooks: Runbooks, tmp_path: Path
) -> None:
    page, documents = tmp_path / "checklist.html", tmp_path / "documents"
    where = ("--documents", str(documents), "--output", str(page), "--json")
    before = runbooks.run("checklist", "--phase", "1", *where)
    assert before.exit_code == 1, str(before)
    assert [box for box, mark in marks(before, 1).items() if mark != "ticked"] == ["Documentation"], str(before)
    runbooks.succeed("document", "--output", str(documents))
    assert set(marks(runbooks.succeed("checklist", "--phase", "1", *where), 1).values()) == {"ticked"}
    assert "☑ The WireGuard mesh" in page.read_text()


@pytest.mark.drill
def test_a_switch_ticks_the_box_of_the_failover_and_another_kernel_opens_it(
    replicated: Lab, runbooks: Runbooks
) -> None:
    title = "Failover by hand is tested"
    before = runbooks.run("checklist", "--phase", "2", "--json")
    assert marks(before, 2)[title] == "open", str(before)
    runbooks.succeed("failover", "--to", "dock-mirror", "--yes")
    after = runbooks.run("checklist", "--phase", "2", "--json")
    assert (marks(after, 2)[title], marks(after, 2)["DRBD is set up"]) == ("ticked", "ticked"), str(after)
    evidence = "/var/lib/dockyard/evidence/switchover.jsonl"
    replicated["dock-load"].succeed(f"""sed -i 's/"kernel":"[^"]*"/"kernel":"6.1"/' {evidence}""", sudo=True)
    expired = runbooks.run("checklist", "--phase", "2", "--json")
    assert marks(expired, 2)[title] == "open", str(expired)
