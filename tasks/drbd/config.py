"""The shared secret and the resource file, on the replicas (and with DRBD 9 on the tie-breaker)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from dockyard.change import Change, Plan, Run, WriteFile, write_file
from dockyard.errors import StepFailed
from dockyard.files import WRITTEN, FileState
from dockyard.observe import Domain, Observed
from dockyard.remote import Command, Outputs
from dockyard.rendering import render
from dockyard.secret import Secret
from dockyard.topology import Host, Replication, Topology
from tasks.drbd import places, sizing
from tasks.drbd.replica import DRBD, LIVE, REPLICAS, carries_replica, replication_of

HIDDEN = "(hidden)"
# 63 characters are the most that DRBD 8.4 takes (measured; drbd.conf(5) says 64): 24 bytes make 48.
_MAKE = """\
umask 077 && [ ! -s "$1" ] && openssl rand -hex 24 >"$1.new" && sync "$1.new" && mv -f -- "$1.new" "$1\""""
_FILL = r"""secret=$(tr -d '\n' <"$2") && [ -n "$secret" ] && printf 's/(hidden)/%s/' "$secret" | sed -i -f - "$1"
"""

_CHECK = """\
all=$(dirname -- "$1")/all.conf
for file in "$3"/global_common.conf "$3"/*.res "$1"; do
  [ "$file" = "$2" ] || [ ! -e "$file" ] || printf 'include "%s";\\n' "$file"
done >"$all"
drbdadm --config-file "$all" dump "$4" >/dev/null"""
"""Read the new file together with all others: one that clashes makes every drbdadm(8) fail, for every resource. What it
prints holds the secret."""

_COUNTED = re.compile(r"^([^#\n]*\busage-count\s+)\w+", re.MULTILINE)
_NODE_ID = re.compile(r"^    on (\S+) \{\n\s+node-id (\d+);", re.MULTILINE)
_GLOBAL = re.compile(r"^([^#\n]*\bglobal\s*\{)", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Replica:
    """One ``on`` section: ``disk`` is None for a diskless tie-breaker, ``metadata`` for internal metadata.

    ``node_id`` goes by the names, so that it stays when roles are exchanged or the arbitrator moves: DRBD 9 keeps it
    in its metadata.
    """

    node_id: int
    host: str
    address: str
    disk: str | None = None
    metadata: str | None = None


def _read_secret(_topology: Topology, _host: Host, outputs: Outputs) -> Secret:
    return Secret(outputs.text("drbd secret"))


def _probe_secret(topology: Topology, _host: Host) -> Sequence[Command]:
    path = places.secret(replication_of(topology))
    return [Command("drbd secret", ("sh", "-c", f"[ ! -s {path} ] || cat {path}"))]


SECRET = Domain("drbd secret", _probe_secret, _read_secret, carries_replica)
"""The shared secret itself; asked for only while it is copied from one replica to the others."""


def plan_secret(topology: Topology, observed: Observed) -> Plan:
    """Make the shared secret, on the first replica, where nobody has one."""
    states = {host: observed.of(DRBD, host) for host in members(topology, observed)}
    if any(state.facts.secret for state in states.values()):
        return {}
    path = places.secret(replication_of(topology))
    return {next(iter(states)): [Run(title=f"make the secret {path}", argv=("sh", "-c", _MAKE, "make", path))]}


def plan_share_secret(topology: Topology, observed: Observed) -> Plan:
    """Give the secret of the first replica that has one to the others; it travels over ssh and is shown nowhere."""
    states = {host: observed.of(DRBD, host) for host in members(topology, observed)}
    holder = next((host for host, state in states.items() if state.facts.secret), None)
    if holder is None:
        return {}
    mark = states[holder].facts.secret
    path = places.secret(replication_of(topology))
    lacking = [host for host, state in states.items() if state.facts.secret != mark]
    secret = observed.of(SECRET, holder) if lacking else Secret("")
    return {host: [WriteFile(path=path, content=secret, seen=FileState(path=path), mode=0o600)] for host in lacking}


def members(topology: Topology, observed: Observed) -> list[str]:
    """The hosts that have the resource: the two replicas, and with DRBD 9 the arbitrator as tie-breaker.

    Raises:
        NotObserved: a replica could not be looked at. StepFailed: the two have different DRBD versions, or none; or
            they have DRBD 9, and the tie-breaker has not.
    """
    replicas = [host.name for role in REPLICAS for host in topology.with_role(role)]
    if not is_9(topology, observed):
        return replicas
    arbitrator = topology.cluster.arbitrator
    facts = observed.of(LIVE, arbitrator).facts
    if not facts.is_9:
        raise StepFailed(
            f"the replicas have DRBD 9, and {arbitrator}, the tie-breaker, has {facts.version or 'no module'}",
            advice=f"Install LINBIT's module and drbd-utils on {arbitrator}, too: it is the third vote.",
        )
    return [*replicas, arbitrator]


def is_9(topology: Topology, observed: Observed) -> bool:
    """Whether the replicas run DRBD 9, and not 8.4; see `members` for what is raised."""
    replicas = [host.name for role in REPLICAS for host in topology.with_role(role)]
    versions = {host: observed.of(LIVE, host).facts.version for host in replicas}
    lacking = [host for host, version in versions.items() if not version]
    if lacking:
        raise StepFailed(
            f"there is no DRBD module for the kernel of {', '.join(lacking)}",
            advice="Debian's kernel carries DRBD 8.4, its cloud kernel does not: install linux-image-amd64 or "
            "-arm64. Ubuntu has it in linux-modules-extra-$(uname -r). A kernel that has none needs LINBIT's module.",
        )
    _refuse_change_at_boot(observed, replicas)
    majors = {host: version.split(".")[0] for host, version in versions.items()}
    if len(set(majors.values())) > 1:
        raise StepFailed(
            "the replicas have different versions of DRBD: "
            + ", ".join(f"{host} has {version}" for host, version in versions.items()),
            advice="8.4 and 9 can talk to each other but have different rules: bring both to one first.",
        )
    return "9" in majors.values()


def _refuse_change_at_boot(observed: Observed, replicas: Sequence[str]) -> None:
    """A module that was installed beside the one that runs: the next boot would meet the other's file and metadata."""
    for host in replicas:
        facts = observed.of(LIVE, host).facts
        if facts.loaded and facts.available and facts.loaded.split(".")[0] != facts.available.split(".")[0]:
            raise StepFailed(
                f"{host} runs DRBD {facts.loaded}, and will load {facts.available} with its next boot",
                advice=f"Decide for one: `modinfo -n drbd` on {host} names the file of the other. LINBIT's guide says "
                "how to go from 8.4 to 9: both replicas down, the new module, `drbdadm create-md` converts.",
            )


def plan_config(topology: Topology, observed: Observed) -> Plan:
    """Write the resource file everywhere, and switch DRBD's own usage counter (which phones home) off.

    Raises:
        StepFailed: a host's own name is not the one in the inventory, so that DRBD would not find itself in the file;
            or the file there is somebody else's, or has other node ids.
    """
    hosts = members(topology, observed)
    _refuse_other_names(hosts, observed)
    _refuse_foreign(replication_of(topology), hosts, observed)
    text = resource_file(topology, hosts, quorum=is_9(topology, observed))
    _refuse_other_ids(topology, observed, hosts)
    return {host: changes for host in hosts if (changes := _changes(topology, observed, host, text))}


def _refuse_other_names(hosts: Sequence[str], observed: Observed) -> None:
    names = {host: observed.of(DRBD, host).facts.hostname for host in hosts}
    wrong = {host: name for host, name in names.items() if name != host}
    if wrong:
        raise StepFailed(
            "; ".join(f"{host} calls itself {name!r}" for host, name in wrong.items()),
            advice="DRBD finds itself in its file by `uname -n`: hostnamectl set-hostname NAME (as in hosts.yaml).",
        )


def _refuse_foreign(replication: Replication, hosts: Sequence[str], observed: Observed) -> None:
    """A resource of that name that somebody made by hand: its options would go, and `adjust` acts at once."""
    path = places.config(replication)
    foreign = [host for host in hosts if observed.of(DRBD, host).files[path].is_foreign]
    if foreign:
        raise StepFailed(
            f"{path} on {', '.join(foreign)} is not Dockyard's: it does not begin with '{WRITTEN}'",
            advice="It is left alone. Give the storage another name (cluster.drbd.resource). Or let Dockyard have this "
            f"one, once it is clear whose data it is: drbdadm down {replication.resource}, and move the file away; "
            "the data stay. (DRBD 9 keeps the node ids in its metadata: it takes ours only where they are the same.)",
        )


def _refuse_other_ids(topology: Topology, observed: Observed, hosts: Sequence[str]) -> None:
    """DRBD 9 keeps the node ids in its metadata: with others in the file no replica would find its disk again."""
    path, wanted = places.config(replication_of(topology)), {host: str(node_id(topology, host)) for host in hosts}
    for host in hosts:
        there = dict(_NODE_ID.findall(observed.of(DRBD, host).files[path].content))
        other = sorted(name for name in wanted.keys() & there.keys() if wanted[name] != there[name])
        if other and topology.host(host).drbd:
            names = ", ".join(f"{name} {there[name]} -> {wanted[name]}" for name in other)
            raise StepFailed(
                f"{host}: other node ids stand in {path} than would be written ({names})",
                advice="DRBD 9 has them in its metadata. Renamed hosts? Keep their names, or make the metadata anew.",
            )


def _changes(topology: Topology, observed: Observed, host: str, text: str) -> list[Change]:
    replication, state = replication_of(topology), observed.of(DRBD, host)
    path, secret = places.config(replication), places.secret(replication)
    written = WriteFile(
        path=path,
        content=text,
        seen=state.files[path],
        mode=0o600,
        prepare=("sh", "-c", _FILL, "fill", "{}", secret),
        validate=("sh", "-c", _CHECK, "check", "{}", path, places.FOLDER, replication.resource),
    )
    stale = state.facts.inline != state.facts.secret
    return [*_no_usage_count(state.files[places.GLOBAL]), *([written] if stale or written.needed() else [])]


def _no_usage_count(seen: FileState) -> list[Change]:
    text, found = _COUNTED.subn(r"\1no", seen.content)
    if not found:
        text, found = _GLOBAL.subn(r"\1\n    usage-count no;", text, count=1)
    if not found:
        text = f"global {{\n    usage-count no;\n}}\n{text}"
    return write_file(WriteFile(path=places.GLOBAL, content=text, seen=seen))


def resource_file(topology: Topology, hosts: Sequence[str], *, quorum: bool) -> str:
    """The text of the resource file, with `HIDDEN` in the place of the secret. It is the same on all hosts."""
    replication = replication_of(topology)
    return render(
        "drbd.res",
        name=replication.resource,
        device=replication.device,
        minor=replication.minor,
        port=replication.port,
        secret=HIDDEN,
        secret_file=places.secret(replication),
        quorum=quorum,
        net=sizing.net_settings(replication.wan),
        disk=sizing.disk_settings(replication.wan),
        replicas=[_replica(topology.host(host), node_id(topology, host)) for host in hosts],
    )


def node_id(topology: Topology, host: str) -> int:
    """The node id of DRBD 9: a replica's is its place among both names, the tie-breaker's is 2, whoever it is."""
    replicas = sorted(replica.name for role in REPLICAS for replica in topology.with_role(role))
    return [*replicas, topology.cluster.arbitrator].index(host)


def _replica(host: Host, own_id: int) -> Replica:
    bare = Replica(own_id, host.name, str(host.wireguard.address))
    return replace(bare, disk=host.drbd.disk, metadata=host.drbd.metadata) if host.drbd else bare
