"""The engine, over hosts that are this machine's shell and a domain that is one small file a host."""

from __future__ import annotations

import io
import json
import subprocess
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from subprocess import PIPE

import pytest

from dockyard.change import Change, Plan, Run, WriteFile, write_file
from dockyard.errors import CommandFailed, NotObserved, ParseError, Refused, StepFailed, UsageError
from dockyard.files import FileState, read_file
from dockyard.findings import Cause, Finding
from dockyard.journal import Journal
from dockyard.observe import Domain, Domains, Observed, sweep
from dockyard.remote import Command, Outputs
from dockyard.report import Report
from dockyard.runbook import IN_VAIN, Engine
from dockyard.steps import Confirm, Converge, Gate, Options, Page, Show, Step, Wait
from dockyard.topology import Host, Topology
from tests.unit.conftest import LocalCluster


class Motd:
    """A domain: every host has one file that must hold its own name."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.domain: Domain[FileState] = Domain("motd", self.probes, self.read)

    def path(self, host: str) -> str:
        return str(self.folder / host / "motd")

    def write(self, host: str) -> None:
        Path(self.path(host)).parent.mkdir()
        Path(self.path(host)).write_text(f"{host}\n")

    def probes(self, _: Topology, host: Host) -> Sequence[Command]:
        return [read_file(self.path(host.name))]

    def read(self, _: Topology, host: Host, outputs: Outputs) -> FileState:
        return FileState.of(outputs, self.path(host.name))

    def plan(self, topology: Topology, observed: Observed) -> Plan:
        return {name: self.change(observed, name) for name in topology.hosts if name in observed.seen(self.domain)}

    def change(self, observed: Observed, name: str) -> list[Change]:
        seen = observed.of(self.domain, name)
        owner, group = self.folder.owner(), self.folder.group()
        return write_file(WriteFile(path=self.path(name), content=f"{name}\n", seen=seen, owner=owner, group=group))

    def check(self, topology: Topology, observed: Observed) -> list[Finding]:
        names = [name for name in topology.hosts if observed.of(self.domain, name).content != f"{name}\n"]
        return [Finding(cause=Cause.NAMES, host=name, fault="wrong", evidence="file", advice="run") for name in names]


class Runner:
    """Builds engines over one local cluster; ``asked`` records the questions, ``answer`` is what a person types."""

    def __init__(self, cluster: LocalCluster, folder: Path) -> None:
        self.cluster = cluster
        self.journals = folder
        self.answer = "y"
        self.asked: list[str] = []
        self.out = io.StringIO()

    def __call__(self, *steps: Step, **options: object) -> Report:
        report = Report("test", out=self.out)
        with Journal("test", self.journals) as journal:
            engine = Engine(
                self.cluster.nornir,
                self.cluster.topology,
                Options(**options),  # type: ignore[arg-type]  # options by name
                report,
                journal,
                hold=lambda: None,
                ask=self.ask,
            )
            engine.run(steps)
        return report

    def ask(self, question: str) -> str:
        self.asked.append(question)
        return self.answer


@pytest.fixture
def motd(tmp_path: Path) -> Motd:
    (tmp_path / "hosts").mkdir()
    return Motd(tmp_path / "hosts")


@pytest.fixture
def run(cluster: LocalCluster, tmp_path: Path) -> Runner:
    return Runner(cluster, tmp_path / "journals")


def converge(motd: Motd, *, each: bool = False) -> Converge:
    return Converge("Write the names", motd.plan, [motd.domain], each=each)


def contents(motd: Motd) -> dict[str, str]:
    return {path.parent.name: path.read_text() for path in motd.folder.glob("*/motd")}


def test_a_look_at_one_host_serves_those_who_see_all_of_them(motd: Motd, run: Runner) -> None:
    looks: list[str] = []

    def probes(topology: Topology, host: Host) -> Sequence[Command]:
        looks.append(host.name)
        return motd.domain.probes(topology, host)

    everywhere = replace(motd.domain, probes=probes)
    first = next(iter(run.cluster.topology.hosts))
    there = replace(everywhere, concerns=lambda _topology, host: host.name == first)
    nothing = partial(Gate, check=lambda _topology, _observed: [])
    run(
        nothing("All", sees=[everywhere]),
        nothing("One", sees=[there]),
        nothing("All again", sees=[everywhere], stale_s=60.0),
    )
    assert sorted(looks) == sorted([*run.cluster.topology.hosts, first])


def test_a_gate_is_checked_once_more_when_a_person_was_asked(motd: Motd, run: Runner) -> None:
    opened: list[bool] = []

    def check(_topology: Topology, _observed: Observed) -> list[Finding]:
        opened.append(not run.asked)
        return [] if opened[-1] else [Finding(cause=Cause.DRBD, host="dock-a", fault="shut", evidence="", advice="")]

    with pytest.raises(StepFailed):
        run(Gate("Open", check, [motd.domain]), converge(motd))
    assert (opened, contents(motd)) == ([True, False], {})
    run.asked.clear()
    run(Gate("Open", check, [motd.domain]), converge(motd), yes=True)
    assert opened == [True, False, True]


def test_a_step_converges_in_two_execs_and_then_has_nothing_to_do_in_one(motd: Motd, run: Runner) -> None:
    assert run(converge(motd)).steps[0].status == "changed"
    assert contents(motd) == {name: f"{name}\n" for name in run.cluster.topology.hosts}
    assert set(run.cluster.execs().values()) == {2}
    assert run(converge(motd)).steps[0].status == "unchanged"
    assert set(run.cluster.execs().values()) == {3}


def test_hosts_that_a_step_does_not_concern_are_not_asked(motd: Motd, run: Runner) -> None:
    load = Domain("motd", motd.probes, motd.read, lambda _topology, host: host.name == "dock-load")
    run.cluster.shells["dock-prod"].dead = True
    run(Converge("Write one name", motd.plan, [load]))
    assert contents(motd) == {"dock-load": "dock-load\n"}
    assert run.cluster.execs() == {"dock-prod": 0, "dock-mirror": 0, "dock-load": 2}


def test_a_dry_run_shows_the_diff_and_changes_nothing(motd: Motd, run: Runner) -> None:
    assert run(converge(motd), dry_run=True).steps[0].status == "planned"
    assert "+dock-prod" in run.out.getvalue()
    assert (contents(motd), run.asked) == ({}, [])


@pytest.mark.parametrize("answer", ["", "n", "no", "what?"])
def test_anything_but_yes_is_no(motd: Motd, run: Runner, answer: str) -> None:
    run.answer = answer
    with pytest.raises(Refused):
        run(converge(motd))
    assert contents(motd) == {}


def test_all_is_asked_once(motd: Motd, run: Runner) -> None:
    run.answer = "a"
    undo = Converge("Empty them", lambda _topology, _observed: emptied(motd, run), [motd.domain])
    with pytest.raises(StepFailed, match="did not last"):
        run(converge(motd), undo)
    assert len(run.asked) == 1


def emptied(motd: Motd, run: Runner) -> Plan:
    return {
        name: [Run(title="empty", argv=("truncate", "-s0", motd.path(name)))] for name in run.cluster.topology.hosts
    }


def test_limit_changes_only_the_named_hosts(motd: Motd, run: Runner) -> None:
    run(converge(motd), limit=frozenset({"dock-prod"}), yes=True)
    assert contents(motd) == {"dock-prod": "dock-prod\n"}
    assert run.asked == []


def test_a_dead_host_refuses_a_step_that_needs_all_and_names_those_that_do_not(motd: Motd, run: Runner) -> None:
    run.cluster.shells["dock-mirror"].dead = True
    later = Converge("Write them one by one", motd.plan, [motd.domain], each=True)
    with pytest.raises(NotObserved) as refusal:
        run(converge(motd), later, yes=True)
    assert refusal.value.host == "dock-mirror"
    assert "Write them one by one" in refusal.value.advice
    assert contents(motd) == {}


def test_a_dead_host_holds_nobody_back_where_each_stands_alone(motd: Motd, run: Runner) -> None:
    run.cluster.shells["dock-mirror"].dead = True
    with pytest.raises(NotObserved, match="dock-mirror: was left out"):
        run(converge(motd, each=True), yes=True)
    assert set(contents(motd)) == {"dock-prod", "dock-load"}


def test_a_run_does_not_look_into_a_change_that_still_goes_on(
    motd: Motd, run: Runner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dockyard.framing.LOCK_WAIT_S", 0)
    lock = ["flock", "-o", str(tmp_path / "dockyard.lock")]
    with subprocess.Popen([*lock, "sh", "-c", "echo held; read _"], stdin=PIPE, stdout=PIPE) as change:
        assert change.stdin
        assert change.stdout
        change.stdout.readline()
        with pytest.raises(NotObserved, match="another batch is still running"):
            run(converge(motd), yes=True)
        run(converge(motd), dry_run=True)
        change.stdin.close()
    assert contents(motd) == {}
    with subprocess.Popen(["flock", "-s", *lock[1:], "sh", "-c", "echo held; read _"], stdin=PIPE, stdout=PIPE) as look:
        assert look.stdout
        look.stdout.readline()
        for host in run.cluster.topology.hosts:
            motd.write(host)
        run(Gate("Look", motd.check, [motd.domain]))
        look.communicate()


def test_a_gate_does_not_pass_over_a_host_that_is_being_changed(
    motd: Motd, run: Runner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dockyard.framing.LOCK_WAIT_S", 0)
    of_what_was_seen = Gate("Look", lambda _topology, _observed: [], [motd.domain])
    run.cluster.shells["dock-load"].dead = True
    run(of_what_was_seen)
    with subprocess.Popen(
        ["flock", "-o", str(tmp_path / "dockyard.lock"), "sh", "-c", "echo held; read _"], stdin=PIPE, stdout=PIPE
    ) as change:
        assert change.stdout
        change.stdout.readline()
        with pytest.raises(NotObserved, match="dock-prod: another batch is still running"):
            run(of_what_was_seen)
        change.communicate()


def test_the_first_failure_stops_a_host_and_says_command_code_and_stderr(motd: Motd, run: Runner) -> None:
    def plan(_: Topology, __: Observed) -> Plan:
        fail = Run(title="break it", argv=("sh", "-c", "echo no space left >&2; exit 28"))
        never = Run(title="never reached", argv=("touch", motd.path("never")))
        return {"dock-prod": [fail, never]}

    with pytest.raises(StepFailed) as failure:
        run(Converge("Break", plan, [motd.domain]), yes=True)
    for words in ("dock-prod", "change 1 of 2: break it", "28", "no space left"):
        assert words in str(failure.value)
    assert contents(motd) == {}


def test_one_host_that_fails_does_not_undo_the_others(motd: Motd, run: Runner) -> None:
    (motd.folder / "dock-prod").write_text("a file where the folder must be")
    with pytest.raises(StepFailed, match="dock-prod"):
        run(converge(motd), yes=True)
    assert set(contents(motd)) == {"dock-mirror", "dock-load"}


def test_a_placeholder_is_shown_and_never_sent(motd: Motd, run: Runner) -> None:
    def plan(_: Topology, __: Observed) -> Plan:
        return {"dock-prod": [Run(title="write the key", argv=("touch", motd.path("x")), provisional=True)]}

    assert run(Converge("Keys", plan, [motd.domain]), dry_run=True).steps[0].planned
    with pytest.raises(StepFailed, match="placeholders"):
        run(Converge("Keys", plan, [motd.domain]), yes=True)
    assert contents(motd) == {}


def test_destruction_must_be_named_even_with_yes(motd: Motd, run: Runner) -> None:
    wipe = Run(title="wipe", argv=("install", "-D", "/dev/null", motd.path("dock-prod")), destroys="dock-prod:/dev/vdb")
    done = Path(motd.path("dock-prod"))

    def plan(_: Topology, __: Observed) -> Plan:
        return {} if done.exists() else {"dock-prod": [wipe]}

    step = Converge("Wipe", plan, [motd.domain])
    for named in ((), ("dock-mirror:/dev/vdb",)):
        with pytest.raises(Refused, match="dock-prod:/dev/vdb"):
            run(step, yes=True, destroy=frozenset(named))
    assert not done.exists()
    run(step, yes=True, destroy=frozenset({"dock-prod:/dev/vdb"}))
    assert done.exists()


def test_a_gate_lets_through_only_what_is_whole(motd: Motd, run: Runner) -> None:
    gate = Gate("The names are right", motd.check, [motd.domain])
    with pytest.raises(StepFailed):
        run(gate)
    run(converge(motd), gate)


def test_a_gate_does_not_take_unseen_for_healthy(motd: Motd, run: Runner) -> None:
    run.cluster.shells["dock-load"].dead = True
    with pytest.raises(NotObserved, match="dock-load"):
        run(Gate("The names are right", motd.check, [motd.domain]))


def test_waiting_ends_when_the_state_comes_or_the_time_is_over(motd: Motd, run: Runner) -> None:
    seen = []

    def check(topology: Topology, observed: Observed) -> list[Finding]:
        seen.append(observed)
        if len(seen) == 3:
            for name in topology.hosts:
                motd.write(name)
        return motd.check(topology, observed)

    run(Wait("They come", check, [motd.domain], timeout_s=30, every_s=0.01))
    assert len(seen) == 4
    for path in motd.folder.glob("*/motd"):
        path.unlink()
    with pytest.raises(StepFailed):
        run(Wait("They never come", motd.check, [motd.domain], timeout_s=0.05, every_s=0.01))


def test_what_does_not_pass_by_itself_is_not_waited_for(motd: Motd, run: Runner) -> None:
    looks = []

    def check(topology: Topology, observed: Observed) -> list[Finding]:
        looks.append(observed)
        return [replace(finding, lasting=True) for finding in motd.check(topology, observed)]

    with pytest.raises(StepFailed):
        run(Wait("They never come", check, [motd.domain], timeout_s=60, every_s=0.01))
    assert len(looks) == IN_VAIN + 1


def test_a_step_may_take_what_was_just_seen_and_what_its_own_change_showed(motd: Motd, run: Runner) -> None:
    seen_after = Gate("The names are right", motd.check, [motd.domain], stale_s=60)
    run(Converge("Write", motd.plan, [motd.domain]), seen_after, yes=True)
    assert set(run.cluster.execs().values()) == {2}
    run(seen_after)
    assert set(run.cluster.execs().values()) == {3}, "the first step of a run looks in any case"
    run(seen_after, Gate("They still are", motd.check, [motd.domain]))
    assert set(run.cluster.execs().values()) == {5}


def test_a_change_is_proved_by_what_it_shows_in_and_the_rest_is_looked_at_again_when_it_is_needed(
    motd: Motd, run: Runner
) -> None:
    looks: list[str] = []

    def read(_: Topology, host: Host, __: Outputs) -> str:
        looks.append(host.name)
        return "seen"

    rest: Domain[str] = Domain("rest", lambda _t, _h: [Command("rest", ("true",))], read)
    sees: Domains = [motd.domain, rest]
    hosts = sorted(run.cluster.topology.hosts)
    run(Converge("Write", motd.plan, sees, proved_by=[motd.domain]), yes=True)
    assert sorted(looks) == hosts
    for path in motd.folder.glob("*/motd"):
        path.unlink()
    write = Converge("Write", motd.plan, sees, proved_by=[motd.domain])
    run(write, Gate("Look", lambda _t, _o: [], [rest], stale_s=60), yes=True)
    assert sorted(looks) == sorted(3 * hosts)
    with pytest.raises(StepFailed, match="did not last"):
        run(Converge("Empty", lambda _t, _o: emptied(motd, run), sees, proved_by=[motd.domain]), yes=True)


def test_what_is_too_old_or_was_asked_otherwise_is_looked_at_again(motd: Motd, run: Runner) -> None:
    shorter = Domain(motd.domain.name, motd.probes, partial(motd.read))
    steps = [Gate("Look", lambda _t, _o: [], [domain], stale_s=60) for domain in (motd.domain, shorter, motd.domain)]
    run(*steps, Gate("Look once more", lambda _t, _o: [], [motd.domain], stale_s=1e-9))
    assert set(run.cluster.execs().values()) == {4}


def test_who_could_not_be_read_is_asked_again(motd: Motd, run: Runner) -> None:
    def read(_: Topology, host: Host, __: Outputs) -> FileState:
        raise ParseError("motd", 1, host.name, "")

    look = Gate("Look", lambda _t, _o: [], [Domain("motd", motd.probes, read)], stale_s=60)
    run(look, look)
    assert set(run.cluster.execs().values()) == {2}


def test_a_wait_looks_again_each_time(motd: Motd, run: Runner) -> None:
    look = Gate("Look", lambda _t, _o: [], [motd.domain])
    with pytest.raises(StepFailed):
        run(look, Wait("They come", motd.check, [motd.domain], timeout_s=0.3, every_s=0.01, stale_s=60))
    assert run.cluster.execs()["dock-load"] > 2


def test_nobody_waits_long_for_what_limit_kept_back(motd: Motd, run: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dockyard.runbook.KEPT_BACK_S", 0.05)
    wait = Wait("They come", motd.check, [motd.domain], timeout_s=7 * 86400, every_s=0.01)
    with pytest.raises(StepFailed):
        run(converge(motd), wait, limit=frozenset({"dock-prod"}), yes=True)
    assert "--limit kept back what is to be done on dock-load, dock-mirror" in run.out.getvalue()


def test_a_tool_that_fails_is_no_empty_state(motd: Motd, run: Runner) -> None:
    def read(_: Topology, host: Host, outputs: Outputs) -> FileState:
        return FileState(path=host.name, content=outputs.text("broken"))

    broken: Domain[FileState] = Domain("broken", lambda _t, _h: [Command(name="broken", argv=("false",))], read)
    with pytest.raises(NotObserved, match="false"):
        run(Converge("Use it", lambda _t, observed: {"x": [observed.of(broken, "dock-prod")]}, [broken]))  # type: ignore[list-item]  # never reached
    assert issubclass(CommandFailed, Exception)


def test_the_journal_tells_the_whole_run(motd: Motd, run: Runner) -> None:
    run(converge(motd), yes=True)
    (journal,) = run.journals.iterdir()
    events = [json.loads(line) for line in journal.read_text().splitlines()]
    assert [event["event"] for event in events] == ["start", "step", "plan", "applied"]
    assert events[2]["plan"]["dock-prod"][0].endswith("+dock-prod")
    assert journal.stat().st_mode & 0o777 == 0o600


def test_changes_that_belong_together_are_not_torn_apart(motd: Motd, run: Runner) -> None:
    pair = Converge("Write both", motd.plan, [motd.domain], together=True)
    with pytest.raises(UsageError, match="dock-prod cannot be changed without dock-mirror, dock-load"):
        run(pair, limit=frozenset({"dock-prod"}), yes=True)
    assert contents(motd) == {}
    run(pair, limit=frozenset(run.cluster.topology.hosts), yes=True)
    assert set(contents(motd)) == set(run.cluster.topology.hosts)


def test_a_host_that_cannot_be_read_after_the_change_is_not_taken_for_converged(motd: Motd, run: Runner) -> None:
    def read(topology: Topology, host: Host, outputs: Outputs) -> FileState:
        state = motd.read(topology, host, outputs)
        if state.exists:
            raise ParseError("motd", 1, state.content, "")
        return state

    motd.domain = Domain("motd", motd.probes, read)
    with pytest.raises(NotObserved, match="dock-prod"):
        run(converge(motd, each=True), yes=True)


def test_what_somebody_else_wrote_while_we_asked_is_left_alone(motd: Motd, run: Runner) -> None:
    def answer(_: str) -> str:
        Path(motd.path("dock-load")).parent.mkdir()
        Path(motd.path("dock-load")).write_text("mine\n")
        return "y"

    run.ask = answer  # type: ignore[method-assign, assignment]  # what the person at the terminal does meanwhile
    with pytest.raises(StepFailed, match="somebody else changed it in the meantime"):
        run(converge(motd))
    assert contents(motd)["dock-load"] == "mine\n"


def test_a_dry_run_says_so_when_a_gate_would_stop_it(motd: Motd, run: Runner) -> None:
    gate = Gate("The names are right", motd.check, [motd.domain])
    with pytest.raises(StepFailed):
        run(gate, dry_run=True)
    run(converge(motd), gate, dry_run=True)
    _, told, shown = run.out.getvalue().partition("3 findings now")
    assert told
    assert all(f"{host}: " in shown for host in ("dock-load", "dock-mirror", "dock-prod"))


PAGE = Page(lines=("dock-prod is gone", "it costs a minute"), phrase="lose 1 min")


def confirmed(motd: Motd) -> tuple[Step, ...]:
    return Confirm("Read this", lambda _topology, _observed: PAGE, [motd.domain]), converge(motd)


@pytest.mark.parametrize("answer", ["", "y", "yes", "lose 2 min"])
def test_a_page_is_answered_by_its_phrase_and_not_by_yes(motd: Motd, run: Runner, answer: str) -> None:
    run.answer = answer
    with pytest.raises(Refused, match="phrase"):
        run(*confirmed(motd), yes=True)
    assert "it costs a minute" in run.out.getvalue()
    assert contents(motd) == {}


def test_the_phrase_opens_the_way_and_a_dry_run_only_shows_it(motd: Motd, run: Runner) -> None:
    run(*confirmed(motd), dry_run=True)
    assert ("lose 1 min" in run.out.getvalue(), run.asked, contents(motd)) == (True, [], {})
    run.answer = PAGE.phrase
    run(*confirmed(motd), yes=True)
    assert set(contents(motd)) == set(run.cluster.topology.hosts)


def test_a_phrase_that_answers_for_all_is_the_last_question(motd: Motd, run: Runner) -> None:
    run.answer = PAGE.phrase
    page, change = confirmed(motd)
    assert isinstance(page, Confirm)
    run(replace(page, for_all=True), change)
    assert (len(run.asked), set(contents(motd))) == (1, set(run.cluster.topology.hosts))


def test_without_a_page_there_is_nothing_to_confirm(motd: Motd, run: Runner) -> None:
    run(Confirm("Read this", lambda _topology, _observed: None, [motd.domain]), converge(motd), yes=True)
    assert (run.asked, set(contents(motd))) == ([], set(run.cluster.topology.hosts))


def test_what_was_seen_is_shown_without_a_question(motd: Motd, run: Runner) -> None:
    run(Show("Look", lambda _topology, observed: sorted(observed.seen(motd.domain)), [motd.domain]))
    assert all(f"  {host}\n" in run.out.getvalue() for host in run.cluster.topology.hosts)
    assert run.asked == []


def test_hosts_that_are_gone_are_looked_for_by_gates_and_left_out_of_changes(motd: Motd, run: Runner) -> None:
    present = sorted(set(run.cluster.topology.hosts) - {"dock-prod"})
    run.cluster.shells["dock-prod"].dead = True
    seen: list[str] = []

    def look(_topology: Topology, observed: Observed) -> list[Finding]:
        seen.extend(observed.unseen(motd.domain))
        return []

    run(Gate("Is it gone?", look, [motd.domain]), converge(motd), yes=True, gone=frozenset({"dock-prod"}))
    assert (seen, sorted(contents(motd))) == (["dock-prod"], present)


# --- tables


def test_a_table_is_shown_recorded_and_changes_nothing(motd: Motd, run: Runner) -> None:
    def rows(topology: Topology, observed: Observed) -> list[dict[str, str]]:
        return [{"host": name, "says": observed.of(motd.domain, name).content.strip()} for name in topology.hosts]

    report = run(Show("What they say", rows, [motd.domain]))
    assert report.tables["What they say"] == rows(run.cluster.topology, sweep(run.cluster.nornir, [motd.domain]))
    assert report.steps[0].status == "unchanged"
    assert "What they say" in run.out.getvalue()
    assert run(Show("Nothing", lambda *_: [], [motd.domain])).tables == {}
