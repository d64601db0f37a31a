from __future__ import annotations

import io
import json

import pytest

from dockyard.errors import StepFailed
from dockyard.findings import Cause, Finding, by_cause
from dockyard.report import HostPlan, Report

FINDING = Finding(cause=Cause.MESH, host="dock-prod", fault="no [handshake]", evidence="never", advice="ping it")


def recorded(*, json_mode: bool) -> tuple[Report, io.StringIO]:
    out = io.StringIO()
    report = Report("phase1", json_mode=json_mode, out=out)
    report.step_started(1, 2, "Write the [names]")
    report.planned([HostPlan(host="dock-prod", titles=["write /etc/hosts"], diffs=["+a"])])
    report.applied(["dock-prod"])
    report.step_ended("nothing to do")
    report.step_started(2, 2, "The mesh is complete")
    report.findings([FINDING])
    report.finish(1, StepFailed("1 findings", advice="look"))
    return report, out


def test_json_mode_prints_one_document_and_nothing_else() -> None:
    _, out = recorded(json_mode=True)
    document = json.loads(out.getvalue())
    assert (document["exit_code"], document["error"]["kind"]) == (1, "StepFailed")
    assert [(step["title"], step["status"]) for step in document["steps"]] == [
        ("Write the [names]", "changed"),
        ("The mesh is complete", "failed"),
    ]
    assert document["steps"][1]["findings"][0]["fault"] == "no [handshake]"


def test_text_shows_diff_finding_evidence_and_advice_with_brackets_intact() -> None:
    text = recorded(json_mode=False)[1].getvalue()
    for line in ("[1/2] Write the [names]", "+a", "no [handshake]", "seen: never", "next: ping it", "1 findings"):
        assert line in text


@pytest.mark.parametrize(("applied", "verb"), [(["dock-prod"], "made"), ([], "planned, nothing done")])
def test_the_summary_tells_plans_from_deeds(applied: list[str], verb: str) -> None:
    out = io.StringIO()
    report = Report("phase1", out=out)
    report.step_started(1, 1, "Write")
    report.planned([HostPlan(host="dock-prod", titles=["a", "b"], diffs=["+a", "+b"])])
    report.applied(applied)
    report.step_ended("nothing to do")
    report.finish(0)
    assert f"2 changes {verb} on 1 hosts" in out.getvalue()


def test_tables_are_kept_without_markup_for_json() -> None:
    report = Report("health", out=io.StringIO())
    report.table("hosts", [{"host": "dock-prod", "mesh": "[green]4/4[/green]"}])
    assert report.tables == {"hosts": [{"host": "dock-prod", "mesh": "4/4"}]}


def test_findings_are_ordered_causes_first() -> None:
    causes = (Cause.NAMES, Cause.BACKUP, Cause.REACH, Cause.MESH)
    findings = [Finding(cause=cause, host="a", fault="", evidence="", advice="") for cause in causes]
    assert [finding.cause for finding in by_cause(findings)] == sorted(causes)
