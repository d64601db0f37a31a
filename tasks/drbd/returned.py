"""The writer that was replaced is back: nothing of it is overwritten unseen, and it becomes the other replica.

Order: the copies of the record (`writer.plan_copies`), `plan_retire`, `check_one_history`, `plan_reconnect`,
`what_came_back`, and then the steps of a planned switchover.
"""

from __future__ import annotations

from collections.abc import Iterator

from dockyard.change import Plan, Run, joined
from dockyard.findings import Cause, Finding
from dockyard.observe import Observed
from dockyard.topology import Topology
from dockyard.unseen import unseen
from tasks.drbd import places
from tasks.drbd.checks import down, finding, seen_replicas
from tasks.drbd.generations import Relation
from tasks.drbd.parted import PARTED
from tasks.drbd.quantities import size
from tasks.drbd.replica import LIVE, other_of, replication_of
from tasks.drbd.side_by_side import check_parted
from tasks.drbd.split import GO_ON, connection, stand
from tasks.drbd.switch import plan_demote, plan_stop
from tasks.drbd.writer import NOBODY, WRITER, shown, writer_of

RECONNECTS = {Relation.SAME, Relation.AHEAD, Relation.BEHIND}


def plan_retire(topology: Topology, observed: Observed) -> Plan:
    """Close the storage on a replaced writer that lives on beside the one that is named; all that it wrote stays."""
    writer = writer_of(topology, observed).writer
    states = seen_replicas(topology, observed)
    others = {host: state for host, state in states.items() if host != writer and (state.primary or state.mounted)}
    if writer not in states or not states[writer].primary:
        return {}
    closed = joined(*(plan(topology, observed, to=writer) for plan in (plan_stop, plan_demote)))
    return {host: changes for host, changes in closed.items() if host in others}


def check_one_history(topology: Topology, observed: Observed) -> list[Finding]:
    """Both replicas are up, and one of them holds all that the other one holds; at most one is Primary."""
    blind = [one for domain in (LIVE, WRITER, PARTED) for one in unseen(observed, domain, Cause.DRBD)]
    states = seen_replicas(topology, observed)
    return blind or [
        *_nobody(topology, observed),
        *down(replication_of(topology).resource, states),
        *check_parted(topology, observed),
        *_other_writer(topology, observed),
        *_overwritten_writer(topology, observed),
    ]


def _other_writer(topology: Topology, observed: Observed) -> Iterator[Finding]:
    """Somebody promoted by hand whom the record does not name."""
    record = writer_of(topology, observed)
    for host, state in seen_replicas(topology, observed).items():
        if state.primary and host != record.writer:
            fault = f"it is Primary, and the arbitrator names {shown(record)}"
            yield finding(
                host, fault, state.sentence, f"If it is the one that goes on: python runbooks/failover.py --to {host}"
            )


def _nobody(topology: Topology, observed: Observed) -> Iterator[Finding]:
    if writer_of(topology, observed) == NOBODY:
        yield finding(
            topology.cluster.arbitrator, "nobody was ever named as the writer", "", "python runbooks/phase2_drbd.py"
        )


def _overwritten_writer(topology: Topology, observed: Observed) -> Iterator[Finding]:
    """The one that the record names holds less than the other: connecting would overwrite what is served now."""
    record, (first, second) = writer_of(topology, observed), seen_replicas(topology, observed)
    ahead = {Relation.AHEAD: first, Relation.BEHIND: second}.get(stand(topology, observed, PARTED) or Relation.SAME)
    if ahead and ahead != record.writer:
        yield finding(
            ahead,
            f"it holds more than {record.writer}, which is named as the writer",
            observed.of(LIVE, ahead).sentence,
            f"python runbooks/split_brain.py shows both. If {record.writer} has not written since: "
            f"python runbooks/failover.py --to {ahead}",
        )


def plan_reconnect(topology: Topology, observed: Observed) -> Plan:
    """Connect where DRBD gave the connection up, though there is one history; nothing is discarded by that."""
    if stand(topology, observed, PARTED) not in RECONNECTS:
        return {}
    name = replication_of(topology).resource
    return {
        host: [
            Run(
                title=f"connect {name}",
                argv=("sh", "-c", GO_ON, "connect", connection(topology, observed, host)),
                timeout_s=90,
            )
        ]
        for host, state in seen_replicas(topology, observed).items()
        if state.standalone
    }


def what_came_back(topology: Topology, observed: Observed) -> list[str]:
    """How the returned replica stands, and the copies of what it may not have sent before it was overwritten."""
    writer = writer_of(topology, observed).writer
    host = other_of(topology, writer)
    name = replication_of(topology).resource
    copies = {
        path: count
        for path, count in observed.of(PARTED, host).kept.items()
        if path.rpartition("/")[2].startswith(f"{name}-returned-")
    }
    return [
        f"{writer} is the writer. {host}: {observed.of(LIVE, host).sentence}",
        *(
            f"What {host} wrote last, before it was overwritten: {host}:{path} ({size(count)})"
            for path, count in copies.items()
        ),
        *([] if copies else [_NO_COPY.format(host=host, unit=places.UP)]),
    ]


_NO_COPY = """\
{host} holds no copy of writes that were never sent: it was not overwritten, or had none, or could not write any down
(journalctl -u {unit} on it)."""
