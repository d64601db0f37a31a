"""Writing known data, cutting the line, waiting for both to end, and clearing up.

The line is cut by the kernel of the Secondary: a table of nftables drops what DRBD sends and gets between the two, and
nothing else. The address in it has a time limit that the kernel keeps, so the line comes back when this machine, the
ssh connection, systemd and every process of the host are gone; a reboot takes the table with it, too. `drbdadm
disconnect` would be no cut: it says goodbye, needs somebody to connect again, and DRBD 9 calls the other disk Outdated.
"""

from __future__ import annotations

from collections.abc import Iterator

from dockyard.change import Change, Plan, Run, WriteFile, filled, install
from dockyard.errors import StepFailed
from dockyard.files import FileState
from dockyard.findings import Finding
from dockyard.observe import Observed
from dockyard.rendering import render
from dockyard.topology import Topology
from tasks.drbd import places
from tasks.drbd.checks import check_in_sync, finding
from tasks.drbd.drill.lag import SAMPLES
from tasks.drbd.drill.scene import LEAD_S, SCENE, STATE, TABLE, TOOLS, UNIT, Drill, Scene, primary, scratch, secondary
from tasks.drbd.quantities import size
from tasks.drbd.replica import LIVE, replication_of

KEPT_FREE = 0.1
"""The part of the file system that a drill leaves free."""

_START = """\
set -eu
mkdir -m 0700 -- "$1"
printf '%s\\n' "$2" >"$3/run"
exec systemd-run --quiet --collect --unit="$4" --property=RuntimeMaxSec="$5" \\
  --property=PartOf="$6" --property=After="$6" /bin/sh "$3/load\""""

_CUT = 'set -eu; install -d -m 0700 -- "$1"; nft -f -; printf "%s\\n" "$2" >"$1/cut"'

_CLEAR = """\
set -u
systemctl stop -- "$1" 2>/dev/null || [ $? = 5 ] || exit
if command -v nft >/dev/null; then
  tables=$(nft list tables ip) || exit
  case $tables in *"table ip $2"*) nft delete table ip "$2" || exit ;; esac
fi
if [ -d "$3" ]; then
  rm -f -- "$3"/block-[0-9]* && rmdir -- "$3" || exit
fi
rm -rf -- "$4\""""


def plan_tools(topology: Topology, observed: Observed) -> Plan:
    """Install what a drill needs and a replica lacks; Debian's nftables comes switched off and without a rule."""
    return {
        host: [install(sorted({TOOLS[tool] for tool in observed.of(SCENE, host).lacks}))]
        for host in _replicas(topology)
        if observed.of(SCENE, host).lacks
    }


def plan_clear(topology: Topology, observed: Observed) -> Plan:
    """Remove all that a drill left: load, cut, scratch folder, notes."""
    folder = scratch(replication_of(topology))
    plan: dict[str, list[Change]] = {}
    for host in _replicas(topology):
        scene = observed.of(SCENE, host)
        if not scene.clean:
            argv = ("sh", "-c", _CLEAR, "clear", UNIT, TABLE, folder, STATE)
            plan[host] = [Run(title=f"clear up after a drill: {_left(scene, folder)}", argv=argv, timeout_s=120)]
    return plan


def _left(scene: Scene, folder: str) -> str:
    parts = {
        "stop the load": scene.unit.is_active,
        "let the line go": scene.table,
        f"remove {folder} with {scene.scratch} files": scene.scratch is not None,
        f"remove {STATE}": bool(scene.run or scene.cut),
    }
    return ", ".join(text for text, wanted in parts.items() if wanted)


def check_begin(topology: Topology, observed: Observed, *, drill: Drill) -> list[Finding]:
    """Both replicas are connected and in sync, one of them has the storage mounted, and there is room for the data."""
    return [*check_in_sync(topology, observed), *_one_writer(topology, observed), *_room(topology, observed, drill)]


def _one_writer(topology: Topology, observed: Observed) -> Iterator[Finding]:
    states = observed.seen(LIVE)
    mounted = [host for host, state in states.items() if state.primary and state.mounted]
    if len(mounted) != 1 or sum(state.primary for state in states.values()) != 1:
        yield finding(
            mounted[0] if mounted else next(iter(states), topology.cluster.arbitrator),
            "not exactly one replica is Primary with the storage mounted",
            "; ".join(f"{host}: {state.sentence}" for host, state in states.items()),
            "python runbooks/health.py",
        )


def _room(topology: Topology, observed: Observed, drill: Drill) -> Iterator[Finding]:
    for host, scene in observed.seen(SCENE).items():
        if scene.room and scene.room.free_bytes - drill.size_bytes < KEPT_FREE * scene.room.size_bytes:
            yield finding(
                host,
                f"too little room in {replication_of(topology).mount} for {size(drill.size_bytes)}",
                f"{size(scene.room.free_bytes)} of {size(scene.room.size_bytes)} are free; a tenth stays free",
                "Give less: --size, --rate or --cut",
            )


def plan_load(topology: Topology, observed: Observed, *, drill: Drill) -> Plan:
    """Begin to write and to sample on the Primary; the unit ends with the storage, and by itself in any case."""
    host = primary(observed)
    if observed.of(SCENE, host).run == drill.run:
        return {}
    replication = replication_of(topology)
    folder, longest_s = scratch(replication), drill.longest_s(replication.wan)
    text = render(
        "drbd-drill-load",
        folder=folder,
        state=STATE,
        count=drill.files,
        file_bytes=drill.file_bytes,
        name=replication.resource,
        port=replication.port,
        peer=topology.host(secondary(topology, observed)).wireguard.address,
    )
    title = (
        f"write {size(drill.files * drill.file_bytes)} of known data into {folder}, {size(drill.file_bytes)} a second"
    )
    argv = ("sh", "-c", _START, "start", folder, drill.run, STATE, UNIT, str(longest_s), places.STORAGE)
    script = WriteFile(
        path=f"{STATE}/load", content=text, seen=FileState(path=""), mode=0o700, validate=("sh", "-n", "{}")
    )
    return {host: [script, Run(title=title, argv=argv)]}


def check_loaded(_topology: Topology, observed: Observed) -> list[Finding]:
    """The load has been running for `LEAD_S` seconds, and what it writes goes over.

    Raises:
        StepFailed: it ended early.
    """
    host = primary(observed)
    _still_writing(host, observed.of(SCENE, host))
    samples = observed.of(SAMPLES, host)
    lasted_s = samples[-1].at_s - samples[0].at_s if samples else 0.0
    if lasted_s >= LEAD_S and samples[-1].in_sync:
        return []
    evidence = f"{len(samples)} samples over {lasted_s:.0f} s, the last one {samples[-1].state if samples else 'none'}"
    return [finding(host, "the load has just begun", evidence, f"journalctl -u {UNIT}")]


def _still_writing(host: str, scene: Scene) -> None:
    advice = f"On {host}: journalctl -u {UNIT}. Running this again clears up and begins anew."
    if not scene.run:
        return  # a dry run
    if scene.failed:
        raise StepFailed(f"{host}: the load ended early: {scene.failed}", advice=advice)
    if not scene.unit.is_active:
        raise StepFailed(f"{host}: the load does not run any more ({scene.unit.active})", advice=advice)


def plan_cut(topology: Topology, observed: Observed, *, drill: Drill) -> Plan:
    """Drop what DRBD sends and gets between the two, on the Secondary, for ``drill.cut_s`` seconds."""
    writer, host = primary(observed), secondary(topology, observed)
    if observed.of(SCENE, host).cut == drill.run:
        return {}
    rules = render(
        "drbd-drill-cut",
        table=TABLE,
        peer=topology.host(writer).wireguard.address,
        port=replication_of(topology).port,
        seconds=drill.cut_s,
    )
    title = f"cut {host} off from {writer} for DRBD alone; the kernel undoes it after {drill.cut_s} s"
    return {host: [Run(title=title, argv=("sh", "-c", _CUT, "cut", STATE, drill.run), stdin=rules.encode())]}


def check_noticed(_topology: Topology, observed: Observed) -> list[Finding]:
    """DRBD on the Primary has given the connection up; it goes on writing alone."""
    host = primary(observed)
    _still_writing(host, observed.of(SCENE, host))
    state = observed.of(LIVE, host)
    if not state.connected:
        return []
    return [finding(host, "DRBD has not noticed yet that the line is cut", state.sentence, "Is the cut in force?")]


def check_line(topology: Topology, observed: Observed) -> list[Finding]:
    """The kernel of the Secondary lets everything through again."""
    host = secondary(topology, observed)
    left_s = observed.of(SCENE, host).cut_left_s
    if left_s is None:
        return []
    advice = f"It ends by itself. At once, on {host}: nft delete table ip {TABLE}"
    return [finding(host, "the line is still cut", f"{left_s} s left", advice)]


def check_caught_up(topology: Topology, observed: Observed) -> list[Finding]:
    """All was written, and all of it is on both sides."""
    host = primary(observed)
    scene = observed.of(SCENE, host)
    _still_writing(host, scene)
    writing = f"{scene.files} files so far"
    under_way = [finding(host, "data is still being written", writing, f"journalctl -u {UNIT}")]
    return [*check_in_sync(topology, observed), *(under_way if scene.run and scene.written_s is None else [])]


def plan_stop(_topology: Topology, observed: Observed) -> Plan:
    """End the sampling."""
    host = primary(observed)
    if not observed.of(SCENE, host).unit.is_active:
        return {}
    return filled({host: [Run(title="stop sampling", argv=("systemctl", "stop", "--", UNIT))]})


def _replicas(topology: Topology) -> list[str]:
    return [host.name for host in topology.hosts.values() if host.drbd]
