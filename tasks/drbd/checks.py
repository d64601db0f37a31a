"""What is wrong with the replication, the worst first: two writers, split brain, no copy, an old copy, a gap."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from dockyard.errors import NotObserved, StepFailed
from dockyard.findings import Cause, Finding
from dockyard.observe import Observed
from dockyard.topology import Replication, Topology
from dockyard.unseen import unseen
from tasks.drbd import places
from tasks.drbd.config import members
from tasks.drbd.replica import DRBD, LIVE, Live, ReplicaState, replication_of
from tasks.drbd.state import Disk
from tasks.drbd.writer import WRITER, Record, contradiction, find_out, shown, writer_of

STATES = Mapping[str, Live]


def check_connected(topology: Topology, observed: Observed, *, leaving: str = "") -> list[Finding]:
    """Both replicas are up and see each other; whether they hold the same data is another question.

    The host ``leaving`` may have lost its disk: all that it writes lies on the other side then.
    """
    states = seen_replicas(topology, observed)
    name = replication_of(topology).resource
    return [
        *unseen(observed, LIVE, Cause.DRBD),
        *_versions(topology, observed),
        *_doubts(name, states),
        *down(name, {host: state for host, state in states.items() if host != leaving or not state.diskless}),
        *_apart(name, states),
    ]


def check_in_sync(topology: Topology, observed: Observed) -> list[Finding]:
    """Both replicas are connected, both copies are UpToDate, and nothing differs."""
    states = seen_replicas(topology, observed)
    return [*check_connected(topology, observed), *_disks(replication_of(topology).resource, states)]


def check_drbd(topology: Topology, observed: Observed) -> list[Finding]:
    """Everything: one writer, the right one, with the storage mounted; both disks UpToDate; nothing out of sync."""
    if topology.cluster.drbd is None or not _begun(observed):
        return []
    replication = replication_of(topology)
    states = seen_replicas(topology, observed)
    name = replication.resource
    return [
        *_two_writers(name, states),
        *check_connected(topology, observed),
        *_disks(name, states),
        *_votes(topology, name, states),
        *_role(topology, observed, states),
        *_mounts(replication, {host: state for host, state in observed.seen(DRBD).items() if host in states}),
    ]


def in_use(topology: Topology, observed: Observed) -> list[str]:
    """The replicas, once phase 2 was started; else none."""
    if topology.cluster.drbd is None or not _begun(observed):
        return []
    return [host.name for host in topology.hosts.values() if host.drbd]


def _begun(observed: Observed) -> bool:
    """Whether phase 2 was ever started: somebody was named as the writer, or a resource runs."""
    named = any(record.generation for record in observed.seen(WRITER).values())
    return named or any(state.running for state in observed.seen(LIVE).values())


def _doubts(name: str, states: STATES) -> Iterator[Finding]:
    for host, state in states.items():
        if state.doubt:
            yield finding(
                host,
                f"two readings of {name} differ: it is changing now, or one of them is not understood",
                state.doubt,
                "Look again. If it stays, nothing is promoted: report it with the output of drbdsetup status",
            )


def seen_replicas(topology: Topology, observed: Observed) -> dict[str, Live]:
    """The replicas that could be looked at, without a tie-breaker."""
    return {host: state for host, state in observed.seen(LIVE).items() if topology.host(host).drbd}


def _versions(topology: Topology, observed: Observed) -> Iterator[Finding]:
    """No module, or different ones: after an update of one host's kernel."""
    try:
        members(topology, observed)
    except NotObserved:
        return  # a finding of its own
    except StepFailed as error:
        first = next(host.name for host in topology.hosts.values() if host.drbd)
        yield finding(first, "the DRBD modules of the replicas do not fit", str(error), error.advice)


def _two_writers(name: str, states: STATES) -> Iterator[Finding]:
    writers = [host for host, state in states.items() if state.primary]
    if len(writers) > 1:
        yield Finding(
            cause=Cause.DRBD,
            host=writers[0],
            subject=writers[1],
            fault=f"{name} is Primary on two hosts: both are being written",
            evidence="; ".join(f"{host}: {states[host].sentence}" for host in writers),
            advice=f"On the host that should not write, at once: {places.LET_GO}. "
            "Then look at both sides: python runbooks/split_brain.py",
        )


def down(name: str, states: STATES) -> Iterator[Finding]:
    """The replicas that are not up, or have no disk."""
    for host, state in states.items():
        if not state.running:
            look = f"On {host}: journalctl -u dockyard-drbd; dmesg; then python runbooks/phase2_drbd.py"
            yield finding(host, f"{name} is not up", state.sentence, look)
        elif not state.attached:
            yield finding(host, f"{name} has no disk here: {_served(state)}", state.sentence, _replace(host, state))


def _served(state: Live) -> str:
    """Who serves the data of a replica that lost its disk."""
    if not state.connected:
        return "the data cannot be reached from here"
    return f"{state.other} holds the only copy" + (", and this Primary works over the line" if state.primary else "")


def _replace(host: str, state: Live) -> str:
    first = f"python runbooks/failover.py --to {state.other}; then r" if state.primary and state.connected else "R"
    return f"{first}eplace the disk (on {host}: dmesg) and python runbooks/phase2_drbd.py: docs/drbd.md, A disk dies"


def _apart(name: str, states: STATES) -> Iterator[Finding]:
    """One finding for the connection, on the replica that has the most to say about it."""
    apart = {host: state for host, state in states.items() if state.running and not state.connected}
    alone = [host for host, state in apart.items() if state.standalone]
    if alone:
        yield Finding(
            cause=Cause.DRBD,
            host=alone[0],
            fault=f"{name} gave the connection up (StandAlone), as it does when both sides were written",
            evidence="; ".join(f"{host}: {state.sentence}" for host, state in apart.items()),
            advice="Connect and discard nothing by hand. Look at both sides first: python runbooks/split_brain.py. "
            "(DRBD 8.4 also gives up when the mesh has no address just then: it shows one history, and what to do.)",
        )
    elif apart:
        host = next(iter(apart))
        yield Finding(
            cause=Cause.DRBD,
            host=host,
            fault=f"{name} is not connected: nothing is replicated now",
            evidence="; ".join(f"{host}: {state.sentence}" for host, state in apart.items()),
            advice="Is the other replica up, and the mesh between the two healthy? DRBD connects again by itself",
        )


def _disks(name: str, states: STATES) -> Iterator[Finding]:
    for host, state in states.items():
        if state.attached and state.disk is not Disk.UP_TO_DATE:
            yield Finding(
                cause=Cause.DRBD,
                host=host,
                fault=f"the copy of {name} here is {state.disk}, not UpToDate",
                evidence=state.sentence,
                advice="Wait while it is being synchronised; else see docs/drbd.md",
            )
        elif state.attached and state.connected and state.out_of_sync_kib and not state.only_copy:
            yield Finding(
                cause=Cause.DRBD,
                host=host,
                fault=f"{state.out_of_sync_kib} KiB of {name} differ between the replicas",
                evidence=state.sentence,
                advice="Still on its way; else a comparison found it: docs/drbd.md, When a comparison finds something",
            )


_PODS_FIRST = "once no pod has it mounted"
"""A pod keeps the file system that has stopped, and a new mount of the same device would be that one again."""


def _votes(topology: Topology, name: str, states: STATES) -> Iterator[Finding]:
    """With DRBD 9: who has no quorum, and a tie-breaker that is missing while all goes well without it."""
    for host, state in states.items():
        if state.quorum_lost:
            effect = "all that is written fails" if state.primary else "nobody can be promoted here"
            then = f"; then on {host}: systemctl restart dockyard-storage, {_PODS_FIRST}" if state.primary else ""
            advice = f"Two of three must see each other: {state.other}, {topology.cluster.arbitrator}, the mesh{then}"
            yield finding(host, f"{name} has no quorum here: {effect}", state.sentence, advice)
    judge = topology.cluster.arbitrator
    lonely = [host for host, state in states.items() if state.running and not state.sees(judge)]
    if lonely and all(state.facts.is_9 for state in states.values()):
        yield finding(
            judge,
            f"the tie-breaker of {name} is not connected to {' and '.join(lonely)}: one more failure stops the writer",
            "; ".join(f"{host}: {states[host].sentence}" for host in lonely),
            f"On {judge}: journalctl -u dockyard-drbd; drbdadm status {name}; then python runbooks/phase2_drbd.py",
        )


def _role(topology: Topology, observed: Observed, states: STATES) -> Iterator[Finding]:
    try:
        record = writer_of(topology, observed)
    except NotObserved as error:
        yield finding(error.host, "who may write could not be read", str(error), "Is the arbitrator up?", unseen=True)
        return
    name = replication_of(topology).resource
    primaries = [host for host, state in states.items() if state.primary]
    if len(primaries) == 1 and primaries[0] != record.writer:
        yield finding(
            primaries[0],
            f"{name} is Primary here, but the arbitrator names another writer",
            f"arbitrator: {shown(record)}",
            "Find out which side was written last before anything is changed (docs/drbd.md)",
        )
    if states and not primaries:
        waits = service(states.get(record.writer))
        yield finding(
            record.writer or next(iter(states)),
            f"nobody is Primary of {name}: the data is not available",
            f"the writer is {shown(record)}; dockyard-storage.service there: {waits}",
            "It waits until that is safe and says why: journalctl -u dockyard-storage; drbd-storage why",
        )
    yield from _copies(topology, observed, record)


def service(state: Live | None) -> str:
    """What `dockyard-storage.service` does, in a word."""
    if state is None:
        return "not seen"
    return "waiting" if state.waiting else state.storage.active


def _copies(topology: Topology, observed: Observed, record: Record) -> Iterator[Finding]:
    yield from (one for one in unseen(observed, WRITER, Cause.DRBD) if one.cause is Cause.DRBD)
    for host, copy in observed.seen(WRITER).items():
        if copy != record and topology.host(host).drbd:
            returned = copy.writer == host and copy.generation < record.generation
            yield finding(
                host,
                "it was replaced as the writer and does not know it"
                if returned
                else "the copy of who may write differs from the arbitrator's",
                f"here: {shown(copy)}; arbitrator: {shown(record)}",
                _mends(topology, record, {host: copy}, returned=returned),
            )


def contradicted(topology: Topology, observed: Observed) -> list[Finding]:
    """The arbitrator's record cannot be the one that counts, as a copy shows; nothing while it was not seen."""
    judge, copies = topology.cluster.arbitrator, observed.seen(WRITER)
    record = copies.get(judge)
    why = contradiction(topology, record, copies) if record else ""
    return [finding(judge, "who may write is not certain", why, find_out(topology))] if why else []


def _mends(topology: Topology, record: Record, copies: Mapping[str, Record], *, returned: bool) -> str:
    if contradiction(topology, record, copies):
        return find_out(topology)
    return f"python runbooks/{'failback.py' if returned else 'phase2_drbd.py'} brings it in line"


def _mounts(replication: Replication, states: Mapping[str, ReplicaState]) -> Iterator[Finding]:
    for host, state in states.items():
        mounted = state.facts.on_mount == replication.device
        if state.facts.on_mount and not mounted:
            yield finding(
                host,
                f"something else is mounted at {replication.mount}",
                state.facts.on_mount,
                f"Only {replication.device} belongs there: look who mounted it (findmnt, /etc/fstab)",
            )
        elif state.primary and not mounted:
            yield finding(
                host,
                f"{replication.mount} is not mounted, though this is the Primary",
                f"dockyard-storage.service: {service(state)}",
                f"On {host}: journalctl -u dockyard-storage; systemctl restart dockyard-storage",
            )
        elif not mounted and not state.facts.immutable:
            yield finding(
                host,
                f"the empty mount point {replication.mount} can be written into",
                "lsattr shows no i",
                "python runbooks/phase2_drbd.py closes it; what lies there now would be hidden by the mount",
            )


def check_next_boot(_topology: Topology, observed: Observed) -> list[Finding]:
    """No kernel was installed beside the one that runs for which LINBIT's module was not built."""
    return [
        finding(
            host,
            "the next boot may come up without this DRBD",
            f"DRBD {facts.loaded} runs; the newest kernel, {facts.next_kernel}, has {facts.next_version or 'none'}",
            f"Before it boots: on {host}, modinfo -k {facts.next_kernel} drbd must show the same major version. "
            "With DKMS: dkms status; are its headers installed? Or remove that kernel: apt-get purge",
        )
        for host, facts in ((host, state.facts) for host, state in observed.seen(DRBD).items())
        if facts.next_kernel and facts.loaded and facts.next_version.split(".")[0] != facts.loaded.split(".")[0]
    ]


def finding(host: str, fault: str, evidence: str, advice: str, *, unseen: bool = False) -> Finding:
    """A finding about DRBD."""
    return Finding(cause=Cause.DRBD, host=host, fault=fault, evidence=evidence, advice=advice, unseen=unseen)
