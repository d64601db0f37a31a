"""A planned change of the writer, with both sides up: nothing is lost, by proof.

Order: `check_ready`, `flush.plan_flush`, `check_ready` again, `plan_hold`, `plan_let_go`, `check_handed_over`,
`check_let_go`, `plan_new_writer`, `plan_copies`, `plan_promote`, `check_promoted`, `check_token`, `plan_start`. Each is
empty when it was done already, so a switch that was cut off anywhere is run again, by anybody who reaches the
arbitrator.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from dockyard.change import Change, Plan, Run, UnitState, filled, joined, unit_probe
from dockyard.findings import Cause, Finding
from dockyard.observe import Domain, Observed
from dockyard.remote import Command, Outputs
from dockyard.topology import Host, Replication, Topology
from dockyard.unseen import unseen
from tasks.drbd import places
from tasks.drbd.checks import check_connected, contradicted, finding, seen_replicas, service
from tasks.drbd.parting import check_line_held, compare_first
from tasks.drbd.replica import LIVE, Live, carries_replica, other_of, replication_of
from tasks.drbd.state import Disk
from tasks.drbd.state import Replication as DrbdReplication
from tasks.drbd.state import Role as DrbdRole
from tasks.drbd.storage import start_storage
from tasks.drbd.writer import NOBODY, WRITER, Record, shown, write_record, writer_of

_PROBE = "token"


@dataclass(frozen=True, slots=True, kw_only=True)
class UsersState:
    """The units that use the storage on one host, by name, and the token in it (0: none, or nothing is mounted)."""

    units: Mapping[str, UnitState]
    token: int


def _probes(topology: Topology, _host: Host) -> Sequence[Command]:
    replication = replication_of(topology)
    path = shlex.quote(f"{replication.mount}/{places.TOKEN}")
    read = f"[ ! -s {path} ] || cat {path}"
    return [Command(_PROBE, ("sh", "-c", read)), *(unit_probe(name) for name in replication.units)]


def _read(topology: Topology, _host: Host, outputs: Outputs) -> UsersState:
    text = outputs.text(_PROBE).strip()
    units = {name: UnitState.of(outputs, name) for name in replication_of(topology).units}
    return UsersState(units=units, token=int(text) if text.isdecimal() else 0)


USERS = Domain("users of the storage", _probes, _read, carries_replica)


def check_ready(topology: Topology, observed: Observed, *, to: str) -> list[Finding]:
    """Both replicas are connected, the new writer's disk is UpToDate, the record is sound, and all that was seen.

    While the old writer still has the storage, nothing may be out of sync: it could not be handed over, and would be
    away for nothing. The old writer may have lost its disk: what it writes goes to the new one's disk alone.
    """
    leaving = other_of(topology, to)
    state, old = observed.seen(LIVE).get(to), observed.seen(LIVE).get(leaving)
    findings = [
        *check_connected(topology, observed, leaving=leaving),
        *unseen(observed, WRITER, Cause.DRBD),
        *_record(topology, observed, to),
        *_nobody_has_it(topology, observed, to),
    ]
    if state and state.attached and state.disk is not Disk.UP_TO_DATE:
        findings.append(finding(to, f"its copy is {state.disk}", state.sentence, "Wait until it is UpToDate"))
    elif old and (old.primary or old.mounted):
        findings.extend(_unsent(topology, observed, to, _DIFFERS))
    return findings


def _record(topology: Topology, observed: Observed, to: str) -> Iterator[Finding]:
    """What is wrong with the arbitrator's record, before anything is stopped because of it."""
    arbitrator = topology.cluster.arbitrator
    record = observed.seen(WRITER).get(arbitrator)
    if record == NOBODY:
        yield finding(
            arbitrator, "nobody was ever named as the writer", shown(NOBODY), "python runbooks/phase2_drbd.py"
        )
    elif unsound := contradicted(topology, observed):
        yield from unsound
    elif record and record.writer != to:
        yield from _begun(observed, record)


def _begun(observed: Observed, record: Record) -> Iterator[Finding]:
    """The writer that is named has not mounted yet: it could not write the token that proves that nothing is lost."""
    state, copy = observed.seen(LIVE).get(record.writer), observed.seen(WRITER).get(record.writer)
    if state and not state.mounted and (state.waiting or copy != record):
        yield finding(
            record.writer,
            "it was named as the writer and has not begun: let it mount before it hands over",
            f"{places.STORAGE} is {service(state)}; {state.sentence}; it was told: {shown(copy or NOBODY)}",
            f"python runbooks/failover.py --to {record.writer}, then this again. Cannot it mount any more (its disk is "
            f"gone)? Switch it off, then --disaster",
        )


_DIFFERS = "Wait while it is synchronised; else a comparison found it: docs/drbd.md, When a comparison finds something"


def _unsent(
    topology: Topology, observed: Observed, to: str, advice: str, *, lasting: bool = False
) -> Iterator[Finding]:
    """What the two sides lack of each other's data.

    An old writer without a disk lacks nothing that counts, and what the new one counts then is what that disk will
    need. What it wrote has arrived: `drbd-storage down` reads a block back behind it before it demotes.
    """
    states = seen_replicas(topology, observed)
    leaving = states.get(other_of(topology, to))
    alone = leaving is not None and leaving.diskless
    for host, state in states.items():
        if alone and host != to:
            continue
        behind = 0 if alone else state.out_of_sync_kib
        if behind or state.disk is not Disk.UP_TO_DATE or not (alone or _sees_good_disk(state)):
            fault = f"not all has arrived: {behind} KiB are out of sync" if behind else "not both disks are UpToDate"
            yield replace(finding(host, fault, state.sentence, advice), lasting=lasting)


def _sees_good_disk(state: Live) -> bool:
    """A disk that failed a moment ago is UpToDate in the other side's last answer, and no more in this one's."""
    return state.towards is None or state.towards.disk is Disk.UP_TO_DATE


def _nobody_has_it(topology: Topology, observed: Observed, to: str) -> Iterator[Finding]:
    """The writer that is named has let go, and the line broke before anybody else was named."""
    record = observed.seen(WRITER).get(topology.cluster.arbitrator, NOBODY)
    state, name = observed.seen(LIVE).get(record.writer), replication_of(topology).resource
    if record.writer == to:
        return
    if state and state.running and not (state.connected or state.primary) and state.storage.active == "inactive":
        fault = "it let go of the storage, and the line broke: nobody has it"
        back = f"drbdadm primary {name} && systemctl start {places.STORAGE}"
        advice = f"It waits for the line. To let {record.writer} go on alone, as nobody else was named: {back} on it"
        advice += f". {compare_first(topology, to)}" if state.facts.is_9 else ""
        yield finding(record.writer, fault, state.sentence, advice)


def plan_hold(topology: Topology, observed: Observed, *, to: str) -> Plan:
    """Stop a new writer from waiting for the old one, when it was named and that one took the storage back.

    It would begin in the moment in which that one lets go, before anybody has seen that all has arrived.
    """
    old = observed.seen(LIVE).get(other_of(topology, to))
    begins = observed.of(LIVE, to).waiting and observed.of(WRITER, to).writer == to
    hold = Run(title=f"stop {places.STORAGE}, which waits", argv=("systemctl", "stop", places.STORAGE), timeout_s=90)
    return filled({to: [hold] if begins and old and old.primary else []})


def plan_let_go(topology: Topology, observed: Observed, *, to: str) -> Plan:
    """Close the storage on the old side: `plan_token`, `plan_stop` and `plan_demote`, in one go."""
    return joined(*(plan(topology, observed, to=to) for plan in (plan_token, plan_stop, plan_demote)))


def plan_token(topology: Topology, observed: Observed, *, to: str) -> Plan:
    """Write a token into the storage, which must be found on the other side: the generation with which ``to`` is named.

    That is the next one, or the present one if the old writer took the storage back after it was given away.
    """
    record, leaving = writer_of(topology, observed), other_of(topology, to)
    wanted = record.generation if record.writer == to else record.generation + 1
    if not observed.of(LIVE, leaving).mounted or observed.of(USERS, leaving).token == wanted:
        return {}
    return {leaving: [write_token(replication_of(topology), wanted)]}


def write_token(replication: Replication, generation: int) -> Change:
    """Write a generation into the storage, down to the disk."""
    path = f"{replication.mount}/{places.TOKEN}"
    argv = ("sh", "-c", 'printf "%s\\n" "$2" >"$1" && sync "$1"', "token", path, str(generation))
    return Run(title=f"write the token {generation} into {path}", argv=argv)


def plan_stop(topology: Topology, observed: Observed, *, to: str) -> Plan:
    """Stop the units that use the storage everywhere but on the new writer, in the order of the inventory."""
    return filled({host: _stops(observed, host) for host in _others(topology, to)})


def _stops(observed: Observed, host: str) -> list[Change]:
    units = observed.of(USERS, host).units.items()
    running = [name for name, state in units if state.active not in {"inactive", "failed"}]
    script = f'{_ALONE} && systemctl stop -- "$1"'
    return [Run(title=f"stop {name}", argv=("sh", "-c", script, "stop", name), timeout_s=300) for name in running]


_ALONE = f"{{ {places.GUARD} alone || [ $? = 2 ]; }}"
"""Nothing is stopped while a pod keeps the storage: it could not be handed over. An older script, which phase 2 has not
replaced yet, does not know ``alone``, and ends with 2."""

DEMOTE: Change = Run(
    title="unmount and demote",
    argv=("sh", "-c", f"{_ALONE} && systemctl stop {places.STORAGE} && {places.GUARD} down"),
    timeout_s=240,
)


def plan_demote(topology: Topology, observed: Observed, *, to: str) -> Plan:
    """Unmount and demote everywhere but on the new writer. What still holds the storage open makes this fail."""
    states = {host: observed.of(LIVE, host) for host in _others(topology, to)}
    still = {host for host, state in states.items() if state.storage.active not in {"inactive", "failed"}}
    busy = [host for host, state in states.items() if state.primary or state.mounted or host in still]
    return {host: [DEMOTE] for host in busy}


def check_all_sent(topology: Topology, observed: Observed, *, to: str) -> list[Finding]:
    """Nothing is out of sync any more, as both sides say, and both disks are UpToDate.

    If the old writer has no disk, ``to`` counts what that disk will need, and there is nothing to be sent: DRBD hands
    all writes and then the end of the role over in one stream, and `plan_promote` looks at that role.
    """
    return _arrived(topology, observed, to, _unsent(topology, observed, to, _SENDING))


def _arrived(topology: Topology, observed: Observed, to: str, lacking: Iterable[Finding]) -> list[Finding]:
    """What is lacking, and why it may never come."""
    return [
        *check_connected(topology, observed, leaving=other_of(topology, to)),
        *lacking,
        *_nobody_has_it(topology, observed, to),
    ]


_SENDING = "It is being sent; look at the line between the two"


def check_handed_over(topology: Topology, observed: Observed, *, to: str) -> list[Finding]:
    """Everything has arrived, and ``to`` has read that the other side is Secondary: nothing can follow that.

    With protocol A a write is done when TCP has it, and DRBD counts it neither as pending nor as out of sync until the
    line is known to be dead, ping-int and ping-timeout later. The end of the role goes through the same socket behind
    the writes (P_STATE, drbd_send_state in drbd_main.c), so that whoever has read it has read them all.

    What ``to`` itself counts while it is named is what the other side lacks: it goes on with all of it.
    """
    state = observed.seen(LIVE).get(to)
    is_writer = observed.seen(WRITER).get(topology.cluster.arbitrator, NOBODY).writer == to
    own = to if is_writer and state and state.disk is Disk.UP_TO_DATE else ""
    idle = _is_idle(topology, observed)
    lacking = _never_sent(topology, observed, to) if idle else _unsent(topology, observed, to, _SENDING)
    found = _arrived(topology, observed, to, (one for one in lacking if one.host != own))
    if state and state.peer and state.peer.connected and state.peer.role is not DrbdRole.SECONDARY:
        fault = "has not read the end of what the other side sends"
        advice = "It comes behind the last write: look at the line between the two"
        found.append(finding(to, fault, state.sentence, advice))
    return [*found, *_not_let_go(observed, other_of(topology, to))]


def check_let_go(topology: Topology, observed: Observed, *, to: str) -> list[Finding]:
    """`check_handed_over` as the side that let go says it now, and the line held meanwhile (`parting`)."""
    return [*check_handed_over(topology, observed, to=to), *check_line_held(topology, observed, to=to)]


def _not_let_go(observed: Observed, leaving: str) -> Iterator[Finding]:
    """It was Secondary when the other side read that; it may have restarted since then, and taken the storage back."""
    state = observed.seen(LIVE).get(leaving)
    if state and state.primary:
        advice = "Nobody else was named, so it goes on. Run this again when it should let go"
        yield finding(leaving, "is Primary", state.sentence, advice)


def _is_idle(topology: Topology, observed: Observed) -> bool:
    """Both are connected, UpToDate and Secondary, and nothing is being compared or brought in line."""
    return all(
        state.connected
        and not state.primary
        and state.disk is Disk.UP_TO_DATE
        and state.towards is not None
        and state.towards.replication is DrbdReplication.ESTABLISHED
        and state.towards.disk is Disk.UP_TO_DATE
        for state in seen_replicas(topology, observed).values()
    )


def _never_sent(topology: Topology, observed: Observed, to: str) -> Iterator[Finding]:
    """DRBD sends what is out of sync as the Primary's, when it connects; between two Secondaries it may never do so.

    8.4 makes no new generation for what a demoted host could not send: both say UpToDate when the line is back.
    """
    name, leaving = replication_of(topology).resource, other_of(topology, to)
    advice = (
        f"The line broke before it arrived, and DRBD does not send it by itself. {leaving} has all of it, and goes on: "
        f"python runbooks/failover.py --to {leaving}; then `drbdadm disconnect {name} && drbdadm connect {name}` on "
        f"{to} (8.4; DRBD 9: docs/drbd.md, When a comparison finds something); when health finds nothing, this again"
    )
    yield from _unsent(topology, observed, to, advice, lasting=True)


def plan_new_writer(topology: Topology, observed: Observed, *, to: str, since: str) -> Plan:
    """Name the new writer, with the next generation, at the arbitrator; the replicas are told when that is done."""
    record = writer_of(topology, observed)
    if record.writer == to:
        return {}
    change = write_record(Record(writer=to, generation=record.generation + 1, since=since))
    return {topology.cluster.arbitrator: [change]}


def plan_promote(topology: Topology, observed: Observed, *, to: str) -> Plan:
    """Let the new writer promote itself and mount; it does so only when the other side is Secondary and UpToDate.

    That takes a second, as a rule: it is waited for on the host. Whether it was done `check_promoted` says.
    Beside a replica that lost its disk it is promoted here, after both sides were seen, and never at boot.
    """
    state, other = observed.of(LIVE, to), observed.seen(LIVE).get(other_of(topology, to))
    name = replication_of(topology).resource
    if other and other.diskless and not state.primary:
        promote = Run(title=f"promote {name} beside a replica without a disk", argv=("sh", "-c", _BESIDE, "p", name))
        return {to: [*begin_promoted(promote), wait_for_mount(replication_of(topology))]}
    start = start_storage(state)
    return filled({to: [*start, wait_for_mount(replication_of(topology))] if start else []})


_BESIDE = """\
state=$(drbdadm status "$1") || exit
says() { printf '%s\\n' "$state" | grep -v peer-client:yes | grep -q "$1"; }
says '^ *disk:UpToDate' && says peer-disk:Diskless && ! says role:Primary || { printf '%s\\n' "$state" >&2; exit 75; }
drbdadm primary "$1\""""
"""Only while the other replica is connected, Secondary, and without a disk; a tie-breaker is not meant."""


def begin_promoted(promote: Change) -> list[Change]:
    """Promote although `dockyard-storage.service` would wait on, and let it mount."""
    stop = Run(title=f"stop {places.STORAGE}, which waits", argv=("systemctl", "stop", "--", places.STORAGE))
    start = Run(title=f"start {places.STORAGE}", argv=("systemctl", "start", "--no-block", "--", places.STORAGE))
    return [stop, promote, start]


def wait_for_mount(replication: Replication) -> Change:
    """Wait ten seconds at most; it succeeds in any case."""
    script = 'n=0; until mountpoint -q -- "$1" || [ $((n += 1)) -gt 50 ]; do sleep 0.2; done'
    argv = ("sh", "-c", script, "wait", replication.mount)
    return Run(title=f"wait a moment for {replication.mount}", argv=argv)


def check_promoted(_topology: Topology, observed: Observed, *, to: str) -> list[Finding]:
    """The new writer is Primary and has the storage mounted."""
    state = observed.seen(LIVE).get(to)
    if state and state.primary and state.mounted:
        return []
    seen = state.sentence if state else "not seen"
    advice = f"On {to}: {places.GUARD} why; journalctl -u {places.STORAGE}"
    return [finding(to, "is not Primary with the storage mounted yet", seen, advice)]


def check_token(topology: Topology, observed: Observed, *, to: str) -> list[Finding]:
    """The token that was written on the old side is read on the new one.

    The next one is as good: ``to`` wrote it itself, for a switch away from it that was given up.
    """
    wanted, token = writer_of(topology, observed).generation, observed.of(USERS, to).token
    if wanted == 1 or token in {wanted, wanted + 1}:
        return []
    evidence = f"token {token or 'missing'}, expected {wanted}"
    path = f"{replication_of(topology).mount}/{places.TOKEN}"
    advice = (
        "Start nothing before you know why (docs/drbd.md). It is also missing when the other side was named before and "
        "never mounted, or had unmounted by itself: then failover.py --to the other side, and back. If that cannot "
        f"mount any more, nobody wrote it, and DRBD, connected and in sync, has all there was: on {to} "
        f"echo {wanted} >{path}, and run this again"
    )
    return [finding(to, "what was written last on the other side is not here", evidence, advice)]


def plan_start(topology: Topology, observed: Observed, *, to: str) -> Plan:
    """Start the units that use the storage on the new writer, last one first.

    The token of a switch away from it that was given up is taken back: it would prove nothing about a later one.
    """
    users, generation = observed.of(USERS, to), writer_of(topology, observed).generation
    back = [write_token(replication_of(topology), generation)] if users.token == generation + 1 else []
    stopped = [name for name, state in reversed(list(users.units.items())) if not state.is_active]
    starts = [Run(title=f"start {name}", argv=("systemctl", "start", "--", name), timeout_s=300) for name in stopped]
    return filled({to: [*back, *starts]})


def _others(topology: Topology, to: str) -> list[str]:
    return [host.name for host in topology.hosts.values() if host.drbd and host.name != to]
