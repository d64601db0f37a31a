"""From two bare devices to one mounted file system: metadata, first synchronisation, file system, mount, boot.

In this order: `plan_units`, `plan_mount_point`, `plan_proof`, `plan_metadata`, `plan_up`, `plan_first_sync`,
`plan_promotion`, `plan_file_system`, `plan_storage`. None of them forces DRBD, except for the very first promotion of a
resource that never held data on any side.
"""

from __future__ import annotations

from typing import Any

from dockyard.change import Change, Plan, Run, Unit, WriteFile, filled, unit, write_file
from dockyard.errors import StepFailed
from dockyard.mount_point import closed_mount_point
from dockyard.observe import Observed
from dockyard.rendering import render
from dockyard.service import RELOAD, unit_file
from dockyard.topology import Backing, Host, Replication, Topology
from tasks.drbd import places, view
from tasks.drbd.config import is_9, members
from tasks.drbd.facts import JUST_CREATED, SUPERBLOCK, WRITTEN, Device
from tasks.drbd.replica import DRBD, Live, ReplicaState, replication_of
from tasks.drbd.state import Disk
from tasks.drbd.writer import designated

PROOF_TIMEOUT_S = 12 * 3600.0
OWN = "drbd"
"""What wipefs(8) calls DRBD's own metadata."""

_PROVE = (
    WRITTEN
    + """
before=$(written "$1")
found=zeros; cmp -s -n "$2" -- "$1" /dev/zero || found=data
printf '%s %s %s\\n' "$found" "$1" "$before" >"$3"
"""
)

_CREATE = (
    WRITTEN
    + """
set -e
name=$1 path=$2 seen=$3 proof=$4
found=$(wipefs --noheadings --output TYPE -- "$path")
found=$(printf '%s\\n' "$found" | sort -u | tr '\\n' ' ')
[ "${found% }" = "$seen" ] || { echo "$path now holds: ${found:-nothing}; seen was: ${seen:-nothing}" >&2; exit 75; }
if [ -n "$seen" ]; then
  wipefs --all --quiet -- "$path"
elif [ "$(lsblk -n -l -o NAME -- "$path" | wc -l)" != 1 ]; then
  echo "$path is in use:" >&2; lsblk -- "$path" >&2; exit 75
fi
if [ -s "$proof" ]; then
  read -r _ disk count <"$proof"
  [ "$count" = "$(written "$disk")" ] || rm -f -- "$proof"
fi
drbdadm create-md --force "$name\""""
)
"""The question was asked a while ago: look again. `--force` lets drbdmeta(8) write to devices that others hold open."""

_IF_BOTH_INCONSISTENT = """\
disks=$(drbdadm dstate "$1"); rm -f -- "$2"
case $disks in Inconsistent/*Inconsistent*) ;; *) echo "the disks are $disks now" >&2; exit 75 ;; esac
name=$1; shift 2
"""


def plan_units(topology: Topology, observed: Observed) -> Plan:
    """Write what brings DRBD up at boot, and what promotes and mounts once that is safe."""
    hosts = members(topology, observed)
    quorum = is_9(topology, observed)
    return filled({host: _units(topology, observed.of(DRBD, host), host, quorum=quorum) for host in hosts})


def _units(topology: Topology, state: ReplicaState, host: str, *, quorum: bool) -> list[Change]:
    texts = unit_texts(topology, quorum=quorum, backing=topology.host(host).drbd)
    changes = [
        change
        for path, (text, mode) in texts.items()
        for change in write_file(WriteFile(path=path, content=text, seen=state.files[path], mode=mode))
    ]
    changes += [forget_drop_in(path) for path in state.drop_ins if path not in texts]
    return [*changes, RELOAD] if changes else []


def forget_drop_in(path: str) -> Change:
    """Let a unit go that the inventory no longer names among those that use the storage."""
    return Run(title=f"remove {path}", argv=("rm", "-f", "--", path))


def unit_texts(topology: Topology, *, quorum: bool, backing: Backing | None) -> dict[str, tuple[str, int]]:
    """Text and mode of every unit and script by path; a tie-breaker without a disk has nothing to promote or mount."""
    replication, values = replication_of(topology), _unit_values(topology, quorum=quorum, backing=backing)
    up = {
        places.ADJUST: (render("drbd-adjust", **values), 0o755),
        unit_file(places.UP): (render("dockyard-drbd.service", **values), 0o644),
    }
    if backing is None:
        return up
    storage = {
        places.GUARD: (render("drbd-storage", **values), 0o755),
        places.CATCH: (view.catch(replication), 0o755),
        unit_file(places.STORAGE): (render("dockyard-storage.service", **values), 0o644),
    }
    users = {
        places.drop_in(unit): (render("storage-user.conf", unit=unit, **values), 0o644) for unit in replication.units
    }
    return {**up, **storage, **users}


def _unit_values(topology: Topology, *, quorum: bool, backing: Backing | None) -> dict[str, Any]:
    replication = replication_of(topology)
    return {
        "name": replication.resource,
        "device": replication.device,
        "mount": replication.mount,
        "filesystem": replication.filesystem,
        "record": places.WRITER,
        "guard": places.GUARD,
        "adjust": places.ADJUST,
        "up": places.UP,
        "interface": topology.cluster.wireguard.interface,
        "quorum": quorum,
        "catch": places.CATCH if backing else "",
        "kept": view.KEPT,
        "storage": places.STORAGE,
        "token": places.TOKEN,
        "units": replication.units[::-1],
        "disk": backing.disk if backing else "",
        "metadata": (backing.metadata if backing else None) or "",
        "devices": backing.devices if backing else [],
        "superblock": SUPERBLOCK,
        "fresh": JUST_CREATED,
    }


def plan_mount_point(topology: Topology, observed: Observed) -> Plan:
    """An empty mount point into which nobody can write: files must not land under the place where the data belongs."""
    mount = replication_of(topology).mount
    return {
        host: [closed_mount_point(mount)]
        for host, state in _replicas(topology, observed).items()
        if not state.mount_point_ready
    }


def plan_proof(topology: Topology, observed: Observed) -> Plan:
    """Read disks without any signature from end to end: only if both hold nothing but zeros is the first sync skipped.

    What was found is kept until the next boot and no longer: it must not be believed of a disk that was used since.
    A new disk beside a copy that holds data is overwritten in any case, and not read before.
    """
    plan: dict[str, list[Change]] = {}
    states = _replicas(topology, observed)
    if _used_before(states):
        return {}
    for host, state in states.items():
        device = _readable(host, state, _backing(topology.host(host)).disk)
        if not device.signatures and not state.attached and not state.facts.generation and not state.facts.proof:
            plan[host] = [_prove(device.path, device.size_bytes)]
    return plan


def _readable(host: str, state: ReplicaState, path: str) -> Device:
    """The device; what cannot be read must not pass for one that holds nothing."""
    device = state.facts.device(path)
    if device is None:
        raise StepFailed(f"{host}: there is no block device {path}", advice=f"Look at hosts.{host}.drbd.")
    if not device.readable:
        raise StepFailed(
            f"{host}: {path} cannot be read, so nobody knows what lies on it",
            advice=f"Nothing was done. On {host}: wipefs {path}; dmesg | tail",
        )
    return device


def _prove(path: str, size_bytes: int) -> Change:
    argv = ("sh", "-c", _PROVE, "prove", path, str(size_bytes), places.PROOF)
    title = f"read {path} ({size_bytes / 2**30:.1f} GiB): does it hold nothing but zeros?"
    return Run(title=title, argv=argv, timeout_s=PROOF_TIMEOUT_S)


def plan_metadata(topology: Topology, observed: Observed) -> Plan:
    """Create DRBD's metadata where there is none. Whatever else lies there is named, and must be named back.

    So must a disk with external metadata beside a replica that was used before: with new metadata the next boot would
    attach it, and DRBD overwrites it from the other side.
    """
    states = _replicas(topology, observed)
    old = bool(_used_before(states))
    return filled({host: _metadata(topology, host, state, beside_old=old) for host, state in states.items()})


def _used_before(states: dict[str, ReplicaState]) -> set[str]:
    """The replicas whose metadata is not new: they have held data."""
    return {host for host, state in states.items() if state.facts.generation and not state.facts.fresh}


def _metadata(topology: Topology, host: str, state: ReplicaState, *, beside_old: bool) -> list[Change]:
    backing = _backing(topology.host(host))
    path = backing.metadata or backing.disk
    if state.attached or state.facts.generation:
        return []
    signatures = sorted(_readable(host, state, path).signatures)
    if OWN in signatures:
        return []
    argv = ("sh", "-c", _CREATE, "create", replication_of(topology).resource, path, " ".join(signatures), places.PROOF)
    found = ", ".join(signatures)
    title = f"create DRBD's metadata on {path}" + (f", which holds {found}" if found else "")
    doomed = f"{host}:{path}" if found else _foreign(topology.host(host), state) if beside_old else ""
    return [Run(title=title, argv=argv, destroys=doomed, timeout_s=600)]


def plan_up(topology: Topology, observed: Observed) -> Plan:
    """Bring the resource up, now and at boot, and in line with its file. Nobody is promoted.

    Once they are connected, DRBD overwrites by itself a replica whose metadata is new with one whose is not.
    """
    name = replication_of(topology).resource
    doomed = _overwritten(topology, observed)
    plan: dict[str, list[Change]] = {}
    for host in members(topology, observed):
        state = observed.of(DRBD, host)
        start = unit(
            Unit(
                name=places.UP,
                seen=state.up,
                enabled=True,
                active=True,
                reload_manager=True,
                destroys=doomed.get(host, ""),
            )
        )
        adjust = Run(title=f"bring {name} in line with its file", argv=(places.ADJUST,), destroys=doomed.get(host, ""))
        stale = [adjust] if state.up.is_active and state.adjustments else []
        plan[host] = [*start, *stale]
    return filled(plan)


def _overwritten(topology: Topology, observed: Observed) -> dict[str, str]:
    """The replicas that DRBD would overwrite as soon as they are attached and connected, with ``host:disk``."""
    states = _replicas(topology, observed)
    old = _used_before(states)
    new = {host: state for host, state in states.items() if state.facts.fresh and not state.attached and old}
    return {host: _foreign(topology.host(host), state) for host, state in new.items()}


def plan_first_sync(topology: Topology, observed: Observed) -> Plan:
    """Make the first copy: by skipping it, where both disks are proven to be empty, else from the writer to the other.

    The one place where a promotion is forced: DRBD demands it for a resource none of whose disks was ever UpToDate.
    What was proven of the disks is used up by it: both files are removed.

    Raises:
        StepFailed: both copies are Inconsistent, and at least one of them held data before.
    """
    states = _replicas(topology, observed)
    if not all(state.connected and state.disk is Disk.INCONSISTENT for state in states.values()):
        return {}
    name = replication_of(topology).resource
    _refuse_old_data(name, states)
    writer = designated(topology, observed)
    other = next(host for host in states if host != writer)
    forget = Run(title="forget what was proven of the disk", argv=("rm", "-f", "--", places.PROOF))
    return {writer: [_first_copy(topology, states, writer, other)], other: [forget]}


def _first_copy(topology: Topology, states: dict[str, ReplicaState], writer: str, other: str) -> Change:
    name = replication_of(topology).resource
    if all(state.facts.proof == "zeros" for state in states.values()):
        title = f"declare the two empty disks of {name} equal, without a first sync"
        return _if_both_inconsistent(title, name, 'drbdadm -- --clear-bitmap new-current-uuid "$name/0"')
    title = f"promote {name} on {writer} for the first time; everything is copied to {other}"
    doomed = _foreign(topology.host(other), states[other])
    return _if_both_inconsistent(title, name, 'drbdadm primary --force "$name"', destroys=doomed)


def _if_both_inconsistent(title: str, name: str, command: str, *, destroys: str = "") -> Change:
    argv = ("sh", "-c", _IF_BOTH_INCONSISTENT + command, "first", name, places.PROOF)
    return Run(title=title, argv=argv, destroys=destroys)


def _refuse_old_data(name: str, states: dict[str, ReplicaState]) -> None:
    used = [host for host, state in states.items() if not state.facts.fresh]
    if used:
        raise StepFailed(
            f"both copies of {name} are Inconsistent, and {', '.join(used)} held data before: none of them is whole",
            advice=f"Nothing is overwritten. Look at both: drbdadm get-gi {name}; dmesg | grep drbd. Restore a backup, "
            f"or decide which one is the better (docs/drbd.md).",
        )


def _foreign(host: Host, state: ReplicaState) -> str:
    """``host:disk`` when something else than DRBD's metadata lies on the disk of a replica, else ``""``."""
    disk = _backing(host).disk
    device = state.facts.device(disk)
    return f"{host.name}:{disk}" if device and device.signatures - {OWN} else ""


def plan_promotion(topology: Topology, observed: Observed) -> Plan:
    """Promote the writer once, so that a file system can be made, before `dockyard-storage.service` is ever started."""
    name = replication_of(topology).resource
    writer = designated(topology, observed)
    states = _replicas(topology, observed)
    started = states[writer].storage.is_enabled
    never_up = not any(state.running for state in states.values())  # a dry run on bare disks
    if started or never_up or any(state.primary for state in states.values()):
        return {}
    for host, state in states.items():
        if state.doubt or not state.connected:
            raise StepFailed(
                f"{host}: nobody is promoted while it is not certain how the other replica stands: "
                + (state.doubt or state.sentence),
                advice="Run again; if it stays: python runbooks/health.py",
            )
    return {writer: [Run(title=f"promote {name}", argv=("drbdadm", "primary", name))]}


def plan_file_system(topology: Topology, observed: Observed) -> Plan:
    """Make the file system on the DRBD device of the writer, where it holds nothing yet.

    A storage that was mounted before has lost its superblock, not its data: to make it anew, the device must be named.
    """
    replication = replication_of(topology)
    writer = designated(topology, observed)
    states = _replicas(topology, observed)
    state, used = states[writer], any(one.storage.is_enabled for one in states.values())
    device = state.facts.device(replication.device)
    if not state.primary or device is None or not device.readable or device.signatures:
        return {}
    return {writer: [_make_file_system(replication, doomed=f"{writer}:{replication.device}" if used else "")]}


_MAKE = """\
dd if="$2" of=/dev/null bs=1M count=1 iflag=direct status=none || exit # wipefs calls what it cannot read empty
found=$(wipefs --noheadings "$2") && [ -z "$found" ] && "mkfs.$1" -q "$2\""""


def _make_file_system(replication: Replication, *, doomed: str) -> Change:
    title = f"make {replication.filesystem} on {replication.device}"
    if doomed:
        title += f", which was in use: fsck.{replication.filesystem} may mend what it held"
    argv = ("sh", "-c", _MAKE, "make", replication.filesystem, replication.device)
    return Run(title=title, argv=argv, destroys=doomed, timeout_s=3600)


def plan_storage(topology: Topology, observed: Observed) -> Plan:
    """Let the writer mount now, and let each replica decide at boot by the record. Starting does not wait."""
    writer = designated(topology, observed)
    plan: dict[str, list[Change]] = {}
    for host, state in _replicas(topology, observed).items():
        enable = unit(Unit(name=places.STORAGE, seen=state.storage, enabled=True, reload_manager=True))
        plan[host] = [*enable, *(start_storage(state) if host == writer else [])]
    return filled(plan)


def start_storage(state: Live) -> list[Change]:
    """Let a replica promote itself and mount; starting does not wait for it. Empty when it does so or has done so.

    A unit that is active though somebody demoted or unmounted by hand is begun anew: starting it would do nothing.
    """
    start = f"systemctl start --no-block {places.STORAGE}"
    if state.waiting or (state.storage.is_active and state.primary and state.mounted):
        return []
    if state.storage.is_active:
        start = f"systemctl stop {places.STORAGE} && {start}"
    return [Run(title=f"start {places.STORAGE}", argv=("sh", "-c", start), timeout_s=150)]


def _replicas(topology: Topology, observed: Observed) -> dict[str, ReplicaState]:
    return {host: observed.of(DRBD, host) for host in members(topology, observed) if topology.host(host).drbd}


def _backing(host: Host) -> Backing:
    assert host.drbd, "members() leaves out what has no disk, and the inventory's rules want one for each replica"
    return host.drbd
