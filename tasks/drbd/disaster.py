"""The writer is gone: give the storage to the other replica, on evidence, when a person types what it may cost.

Order: `check_gone`, the page of `preflight`, `check_gone` again (minutes may have passed), `plan_new_writer_alone`,
`plan_told_alone`, `plan_promote_alone`, `check_promoted`, `plan_start_alone`. DRBD is never forced: what is not
UpToDate stays Secondary.
"""

from __future__ import annotations

from dockyard.change import Plan, Run, filled
from dockyard.errors import Unreachable
from dockyard.findings import Cause, Finding
from dockyard.observe import Observed
from dockyard.steps import Page
from dockyard.topology import Topology
from dockyard.unseen import unseen
from tasks.drbd import sizing
from tasks.drbd.checks import contradicted, finding
from tasks.drbd.replica import LIVE, Live, other_of, replication_of
from tasks.drbd.state import Disk
from tasks.drbd.switch import USERS, begin_promoted, plan_promote, plan_start, write_token
from tasks.drbd.witness import WITNESS, Witness
from tasks.drbd.writer import WRITER, Record, shown, write_record, writer_of


def check_gone(topology: Topology, observed: Observed, *, to: str) -> list[Finding]:
    """Nobody who matters sees the other replica, and the copy on ``to`` can be promoted. Every finding refuses."""
    gone, judge = other_of(topology, to), topology.cluster.arbitrator
    needed = [one for one in unseen(observed, WITNESS, Cause.DRBD) if one.host in {to, judge}]
    seen = [*_seen_alive(observed, gone, (to, judge)), *_blind(observed, judge, to, gone)]
    return [*needed, *seen, *_unfit(topology, observed, to, gone)]


def _seen_alive(observed: Observed, gone: str, witnesses: tuple[str, str]) -> list[Finding]:
    found: list[Finding] = []
    error = observed.unseen(LIVE).get(gone)
    if not isinstance(error, Unreachable) or error.answered:
        evidence = str(error) if error else observed.of(LIVE, gone).sentence
        found.append(finding(gone, "is not gone: it answers this machine", evidence, f"Without --disaster, or: {_OFF}"))
    for witness in witnesses:
        state = observed.seen(WITNESS).get(witness)
        if state and state.answers.get(gone):
            evidence = f"{witness} gets answers from it through the mesh"
            found.append(finding(gone, f"is not gone: {witness} sees it", evidence, _OFF))
    return found


def _blind(observed: Observed, judge: str, to: str, gone: str) -> list[Finding]:
    """An arbitrator that sees neither replica may be the one that is cut off."""
    state = observed.seen(WITNESS).get(judge)
    if state is None or state.answers.get(to):
        return []
    fault = f"cannot witness: it does not see {to} either, so that nothing follows from not seeing {gone}"
    return [finding(judge, fault, f"no answer from {to} through the mesh", f"Mend the mesh of {judge} first")]


_OFF = "switch it off first, so that it cannot write any more; then run this again"


def _unfit(topology: Topology, observed: Observed, to: str, gone: str) -> list[Finding]:
    found: list[Finding] = []
    state = observed.seen(LIVE).get(to)
    if state is None:
        return unseen(observed, LIVE, Cause.DRBD)
    if state.doubt:
        found.append(finding(to, "two readings of DRBD differ", state.doubt, "Look again"))
    if state.disk is not Disk.UP_TO_DATE:
        fault = f"its copy is {state.disk}: promoting it would bring back old or torn data"
        found.append(finding(to, fault, state.sentence, f"Bring {gone} back, or restore a backup"))
    if state.connected:
        found.append(finding(gone, f"is not gone: {to} is connected to it", state.sentence, _OFF))
    if state.standalone:
        name = replication_of(topology).resource
        fault = "it gave the connection up before: how old its copy is, and what the other side wrote, nobody knows"
        advice = f"If it is the copy that you want all the same: drbdadm connect {name} on it, then this again"
        found.append(finding(to, fault, state.sentence, advice))
    if state.quorum_lost:
        judge = topology.cluster.arbitrator
        advice = f"Bring {gone} or {judge} back; a host that has just booted needs the other replica (docs/failures.md)"
        found.append(finding(to, "it has no quorum: DRBD refuses to promote it", state.sentence, advice))
    return [*found, *_unsound(topology, observed, gone, to)]


def _unsound(topology: Topology, observed: Observed, gone: str, to: str) -> list[Finding]:
    """The arbitrator's record is not one that the next one may follow."""
    record = observed.seen(WRITER).get(topology.cluster.arbitrator)
    if record and record.writer not in {gone, to}:
        fault = f"the arbitrator names {shown(record)}"
        return [finding(to, fault, f"generation {record.generation}", "docs/drbd.md, Who may write")]
    return contradicted(topology, observed)


_PRICE = """\
Lost is what {gone} wrote and could not send any more. If it died when the contact broke: up to {waiting_kib} KiB (its
  send buffer) and what was on the line. If it wrote on for a while before it died: that, too. If it lives on, cut off:
  all that it writes until somebody stops it."""

_RETURN = """\
When {gone} returns it stays Secondary: python runbooks/failback.py then. If it wrote after the contact broke, DRBD
  refuses to connect (split brain): nothing is thrown away, and nothing is replicated until you decide which side to
  keep."""


def preflight(topology: Topology, observed: Observed, *, to: str) -> Page:
    """The evidence and the price, for the person who decides, and the phrase that says both were read."""
    gone, judge = other_of(topology, to), topology.cluster.arbitrator
    here, there = observed.of(WITNESS, to), observed.of(WITNESS, judge)
    replication = replication_of(topology)
    seen = f"{judge} does not see it ({_silence(there.silent_s.get(gone))})"
    lines = (
        f"{gone} does not answer this machine now (since when, it cannot know): {observed.unseen(LIVE).get(gone)}",
        f"{seen}; {to} neither ({_silence(here.silent_s.get(gone))})",
        f"DRBD on {to}: {observed.of(LIVE, to).sentence}; lost its connection {_ago(here.lost_s)}",
        *_marked(observed.of(LIVE, to), to, gone),
        f"The arbitrator names {shown(writer_of(topology, observed))}.",
        _PRICE.format(gone=gone, waiting_kib=sizing.send_buffer_kib(replication.wan)),
        _RETURN.format(gone=gone),
        f"If you can, make sure that {gone} is off and stays off.",
    )
    return Page(lines=lines, phrase=f"give {replication.resource} to {to} and lose {_span(here, gone)}")


def _marked(state: Live, to: str, gone: str) -> list[str]:
    """What a Secondary counts does not grow while it is alone: a comparison has found it, or a resync did not end."""
    kib = 0 if state.primary else state.out_of_sync_kib
    return [f"{kib} KiB on {to} are known to differ from {gone}: which of them are good, nobody knows."] if kib else []


def _span(here: Witness, gone: str) -> str:
    """What is lost, as a time. A handshake says nothing of DRBD: without its own log nobody knows since when."""
    if here.lost_s is None:
        return "an unknown time"
    return f"the last {max(1, -(-max(here.lost_s, here.silent_s.get(gone, 0)) // 60))} min"


def _silence(seconds: int | None) -> str:
    return "never a handshake" if seconds is None else f"last handshake {seconds} s ago"


def _ago(seconds: int | None) -> str:
    return "at a time that its log does not tell" if seconds is None else f"{seconds} s ago"


def plan_new_writer_alone(topology: Topology, observed: Observed, *, to: str, since: str) -> Plan:
    """Name ``to`` as the writer, with the next generation but one, at the arbitrator.

    The next one is what the lost writer may hold for its own: a switch away from it that was given up has that token.
    """
    record = writer_of(topology, observed)
    if record.writer == to:
        return {}
    return {
        topology.cluster.arbitrator: [write_record(Record(writer=to, generation=record.generation + 2, since=since))]
    }


def plan_told_alone(topology: Topology, observed: Observed, *, to: str) -> Plan:
    """Tell ``to``, once the arbitrator has it: a run that was cut off between the two finds no contradiction."""
    record = writer_of(topology, observed)
    return {} if observed.of(WRITER, to) == record else {to: [write_record(record)]}


def plan_promote_alone(topology: Topology, observed: Observed, *, to: str) -> Plan:
    """Promote without the other side, then let `dockyard-storage.service` mount. DRBD may refuse, and then is right."""
    state = observed.of(LIVE, to)
    if state.primary:
        return plan_promote(topology, observed, to=to)
    name = replication_of(topology).resource
    promote = Run(title=f"promote {name} without the other replica", argv=("drbdadm", "primary", name))
    return {to: begin_promoted(promote)}


def plan_start_alone(topology: Topology, observed: Observed, *, to: str) -> Plan:
    """Mark what is here as the history that goes on, with the token of its generation, and start what uses it."""
    generation = writer_of(topology, observed).generation
    known = observed.of(USERS, to).token in {generation, generation + 1}
    mark = [] if known else [write_token(replication_of(topology), generation)]
    return filled({to: [*mark, *plan_start(topology, observed, to=to).get(to, ())]})
