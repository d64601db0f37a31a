"""What comes after the first day: another release, another token, snapshots of the control plane, nodes that leave."""

from __future__ import annotations

import re
from collections.abc import Iterator

from dockyard.change import Change, Plan, RemoveFile, Run, Unit, filled, unit
from dockyard.errors import StepFailed
from dockyard.files import FileState
from dockyard.findings import Cause, Finding
from dockyard.observe import Observed
from dockyard.service import RELOAD
from dockyard.topology import Topology
from dockyard.unseen import unseen
from tasks.k3s import places
from tasks.k3s.api import KUBECTL, NODES, OBJECTS
from tasks.k3s.binary import digest, fetch, switch
from tasks.k3s.config import restart, server_of, settings
from tasks.k3s.copies import replaced
from tasks.k3s.facts import K3S, NodeHost, is_node
from tasks.k3s.join import check_joined, check_ready, finding, forget, is_labelled, uncordon, workers
from tasks.k3s.nodes import Node, Truth
from tasks.k3s.pods import known_pods, pods

_ROTATE = """\
set -eu
K3S_TOKEN=$(cat "$1") k3s token rotate >/dev/null
systemctl restart "$2\""""
"""The old token in the environment, the new one made by K3s itself: neither is on a command line."""

_TAKE = """\
set -eu; umask 077; to=$1 data=$2 unit=$3 password=$4
install -d -m 0700 -- "$(dirname -- "$to")"
rm -rf -- "$to.new"; mkdir -- "$to.new"
trap 'exit 129' HUP; trap 'exit 143' TERM; trap 'systemctl start "$unit"' EXIT
systemctl stop "$unit"
for part in db tls cred token; do
  [ ! -e "$data/server/$part" ] || cp -a -- "$data/server/$part" "$to.new/"
done
[ ! -e "$password" ] || cp -a -- "$password" "$to.new/node-password"
[ -d "$to.new/db" ]
[ -s "$to.new/token" ]
sync -f -- "$to.new"; mv -T -- "$to.new" "$to\""""
"""Stopped for the copy: then SQLite's file and its log belong together. Pods do not notice.

The control plane's own password goes along, as its hash lies in the datastore: on a new disk K3s makes another one, and
refuses itself with it (github.com/k3s-io/k3s/issues/3435).
"""

_RESTORE = """\
set -eu; umask 077; from=$1 data=$2 unit=$3 password=$4 aside=$5 note=$6 label=$7 text=$8
[ -d "$from/db" ]
[ -s "$from/token" ]
install -d -m 0700 -- "$aside"
for part in db tls cred token; do
  rm -rf -- "$data/server/$part.new"
  [ ! -e "$from/$part" ] || cp -a -- "$from/$part" "$data/server/$part.new"
done
drained=
open() { for node in $drained; do timeout 20 k3s kubectl uncordon "$node" >&2 || :; done; }
trap 'exit 129' HUP; trap 'exit 143' TERM; trap open EXIT
for node in $(timeout 20 k3s kubectl get nodes --selector "$label" -o name 2>/dev/null || :); do
  drained="$drained ${node#node/}"
  timeout 90 k3s kubectl drain "${node#node/}" --ignore-daemonsets --delete-emptydir-data --timeout=80s >&2 || :
done
trap 'systemctl start "$unit"; open' EXIT
systemctl stop "$unit"
trap 'systemctl start "$unit"' EXIT
for part in db tls cred token; do
  [ ! -e "$data/server/$part" ] || mv -- "$data/server/$part" "$aside/"
  [ ! -e "$data/server/$part.new" ] || mv -T -- "$data/server/$part.new" "$data/server/$part"
done
if [ -e "$from/node-password" ]; then
  [ ! -e "$password" ] || mv -- "$password" "$aside/node-password"
  install -d -m 0700 -- "$(dirname -- "$password")"
  cp -a -- "$from/node-password" "$password"
fi
printf '%s\\n' "$text" >"$note"; sync -f -- "$note\""""
"""All is copied before anything stands still, so that a full disk leaves the control plane as it was.

Then the pods of who carries the volumes end in good order, if the control plane still can: a worker gives those that
the older datastore does not know one second (`HandlePodCleanups` in pkg/kubelet/kubelet_pods.go). Its node is opened
again when the run ends before the datastore is changed.
"""

_NOTE = """\
set -eu; install -d -- "$(dirname -- "$1")"; printf '%s\\n' "$2" >"$1"; sync -f -- "$1\""""
_RELEASE = re.compile(r"v1\.(\d+)\.(\d+)")


def plan_fetch(topology: Topology, observed: Observed) -> Plan:
    """Bring the wanted release to every node, beside the one that it runs: a download that fails changes nothing."""
    states = observed.seen(K3S).items()
    return filled({host: fetch(topology, host, state) for host, state in states if state.binary})


def is_behind(topology: Topology, observed: Observed, host: str) -> bool:
    """Whether a node does not run the wanted release yet. One without any gets it from phase 1, and is not behind."""
    state = observed.of(K3S, host)
    if not state.binary:
        return False
    node = observed.of(NODES, server_of(topology).name).nodes.nodes.get(host)
    pinned = settings(topology).version
    stale = bool(node and pinned and node.version != pinned)
    return stale or _runs_another(topology, host, state)


def check_upgrade(topology: Topology, observed: Observed) -> list[Finding]:
    """Every node is ready, and the wanted release is one minor release ahead at the most (Kubernetes' skew policy).

    A worker that was installed anew has no K3s: it gets the new release from phase 1, once the control plane runs it.
    """
    bare = {
        host.name for host in workers(topology) if (state := observed.seen(K3S).get(host.name)) and not state.binary
    }
    joined = [one for one in check_joined(topology, observed) if one.host not in bare]
    found = [*unseen(observed, K3S, Cause.K3S), *joined]
    pinned, server = settings(topology).version, server_of(topology).name
    api = observed.seen(NODES).get(server)
    node = api.nodes.nodes.get(server) if api else None
    if pinned and node and (fault := _skew(node.version, pinned)):
        found.append(
            finding(server, fault, f"it runs {node.version}", "Change cluster.k3s.version, one step at a time")
        )
    state = observed.seen(K3S).get(server)
    if pinned is None and state and _runs_another(topology, server, state):
        advice = "Give cluster.k3s.version as `k3s --version` prints it, beside binary"
        found.append(finding(server, "nobody can say how large the step is", "no cluster.k3s.version", advice))
    if pinned and node and state and node.version != pinned and _runs_old_file(topology, server, state):
        fault = f"cluster.k3s.sha256 is still that of {node.version}"
        found.append(finding(server, fault, state.binary, f"Give the one of {pinned}: both change together"))
    return found


def _runs_old_file(topology: Topology, host: str, state: NodeHost) -> bool:
    """Whether nothing would be changed for another version: the file that is wanted runs already."""
    return bool(state.binary) and not state.stale and not _runs_another(topology, host, state)


def _skew(running: str, wanted: str) -> str:
    now, then = (_RELEASE.match(text) for text in (running, wanted))
    if not now or not then:
        return ""
    if (int(then[1]), int(then[2])) < (int(now[1]), int(now[2])):
        return f"{wanted} would be a step back: Kubernetes cannot read a datastore of a newer release"
    if int(then[1]) > int(now[1]) + 1:
        return f"{wanted} skips a minor release: Kubernetes goes one by one"
    return ""


def plan_upgrade(topology: Topology, observed: Observed, *, host: str) -> Plan:
    """Let one node run the wanted release. Its containers go on meanwhile."""
    state = observed.of(K3S, host)
    if release := _release(topology, host, state):
        return {host: [*release, restart(state.unit)]}
    return {host: [restart(state.unit)]} if state.stale else {}


def plan_drain(topology: Topology, observed: Observed, *, host: str, leaving: bool = False) -> Plan:
    """Let a node's pods end in good order before it is upgraded, or (``leaving``) before it goes for good.

    Those that carry data wait until the node is back: their volume is nowhere else. See `known_pods` for errors.
    """
    server = server_of(topology).name
    node = observed.of(NODES, server).nodes.nodes.get(host)
    if node is None or node.ready is not Truth.TRUE or not (leaving or is_behind(topology, observed, host)):
        return {}
    inside = [pod for pod in known_pods(observed.of(OBJECTS, server)) if pod.node == host]
    if node.unschedulable and not inside:
        return {}
    options = ("--ignore-daemonsets", "--delete-emptydir-data", "--timeout=300s")
    title = f"drain {host}" + (f": {', '.join(pod.name for pod in inside)}" if inside else "")
    return {server: [Run(title=title, argv=(*KUBECTL, "drain", host, *options), timeout_s=330)]}


def plan_uncordon(topology: Topology, observed: Observed, *, host: str) -> Plan:
    """Let pods start on a node again, once it runs the wanted release."""
    server = server_of(topology).name
    node = observed.of(NODES, server).nodes.nodes.get(host)
    if node is None or not node.unschedulable or is_behind(topology, observed, host):
        return {}
    return {server: [Run(title=f"let pods start on {host} again", argv=(*KUBECTL, "uncordon", host))]}


def plan_open(topology: Topology, observed: Observed) -> Plan:
    """Let pods start on who carries the volumes, after a restore: the snapshot may know it as drained."""
    server = server_of(topology).name
    nodes = observed.of(NODES, server).nodes.nodes
    closed = [name for name, node in nodes.items() if is_labelled(node) and node.unschedulable]
    return filled({server: [uncordon(name) for name in closed]})


def check_upgraded(topology: Topology, observed: Observed, *, host: str) -> list[Finding]:
    """A node runs the wanted release and is ready."""
    found = check_upgrade(topology, observed)
    state = observed.seen(K3S).get(host)
    found += _not_started(host, state) if state else []
    if not found and is_behind(topology, observed, host):
        found.append(finding(host, "does not run the wanted release yet", "its link or what it told the API", "Wait"))
    return found


def check_started(topology: Topology, observed: Observed) -> list[Finding]:
    """Every node is ready, and its unit has started: the API calls a node ready for 40 s after its last word.

    An older datastore may know a node that is not in the inventory any more: that is for health.
    """
    found = check_ready(topology, observed)
    for host, state in observed.seen(K3S).items():
        found += _not_started(host, state)
    return found


def _not_started(host: str, state: NodeHost) -> Iterator[Finding]:
    if state.binary and not state.unit.is_active:
        look = f"journalctl -u {state.unit.name} on {host}"
        yield finding(host, f"{state.unit.name} has not started", f"it is {state.unit.active}", look)


def check_pods(topology: Topology, observed: Observed) -> list[Finding]:
    """Every pod of ours is ready: the next node waits for that."""
    server = server_of(topology).name
    found = unseen(observed, OBJECTS, Cause.K3S)
    live = observed.seen(OBJECTS).get(server)
    if live and not live.answers:
        found.append(finding(server, "the API does not answer", live.said, "Wait"))
    for pod in pods(live) if live else ():
        if not pod.ready or pod.leaving:
            look = f"On {server}: k3s kubectl -n {pod.namespace} describe pod {pod.name}"
            found.append(finding(pod.node or server, f"the pod {pod.name} is not ready", pod.reason, look))
    return found


def plan_rotate(topology: Topology, observed: Observed) -> Plan:
    """Make a new token, unless a rotation is under way: a worker that does not have the present one gets it first."""
    server = server_of(topology).name
    made = observed.of(K3S, server).server_token
    known = [observed.of(K3S, host.name).token for host in workers(topology)]
    if made is None or any(token is None or token.fingerprint != made.fingerprint for token in known):
        return {}
    argv = ("sh", "-c", _ROTATE, "rotate", places.SERVER_TOKEN, places.SERVER)
    return {server: [Run(title="make a new token, and start the control plane with it", argv=argv, timeout_s=300)]}


def plan_snapshot(topology: Topology, observed: Observed, *, name: str) -> Plan:
    """Copy datastore, certificates and token together, while the control plane stands still for some seconds."""
    server = server_of(topology).name
    if name in observed.of(K3S, server).snapshots:
        return {}
    to = f"{places.SNAPSHOTS}/{name}"
    argv = ("sh", "-c", _TAKE, "take", to, places.DATA, places.SERVER, places.NODE_PASSWORD)
    return {server: [Run(title=f"snapshot of the control plane in {to}", argv=argv, timeout_s=600)]}


def plan_restore(topology: Topology, observed: Observed, *, name: str, run: str) -> Plan:
    """Put the control plane back to a snapshot, with the release that is wanted; what it is now is moved aside.

    Raises:
        StepFailed: there is no such snapshot.
    """
    server = server_of(topology).name
    state, note = observed.of(K3S, server), f"{name} {run}"
    if state.restored == note:
        return {}
    if name not in state.snapshots:
        raise StepFailed(
            f"{server} has no snapshot {name!r}", advice=f"There are: {', '.join(state.snapshots) or 'none'}"
        )
    aside = f"{places.SNAPSHOTS}/before-{run}"
    source = f"{places.SNAPSHOTS}/{name}"
    label = f"{places.STORAGE_LABEL}={places.HERE}"
    where = (source, places.DATA, places.SERVER, places.NODE_PASSWORD, aside, places.RESTORED, label)
    argv = ("sh", "-c", _RESTORE, "restore", *where, note)
    title = f"put the control plane back to {name}; what it is now goes to {aside}"
    back = Run(title=title, argv=argv, timeout_s=900, destroys=replaced(topology))
    return {server: [*_release(topology, server, state), back]}


def plan_follow(topology: Topology, observed: Observed, *, name: str, run: str) -> Plan:
    """Start every worker anew after the control plane was put back, with the release that is wanted.

    A kubelet goes on from what it saw last, which is newer than what the datastore knows now: it would keep pods that
    nobody knows any more, and miss changes (github.com/kubernetes/kubernetes/issues/131115).
    """
    note = f"{name} {run}"
    argv = ("sh", "-c", _NOTE, "note", places.RESTORED, note)
    noted = Run(title=f"note that it was started after {note} was put back", argv=argv)
    plan: dict[str, list[Change]] = {}
    for host in (one.name for one in workers(topology)):
        state = observed.seen(K3S).get(host)
        if state and state.binary and state.restored != note:
            plan[host] = [*_release(topology, host, state), restart(state.unit), noted]
    return plan


def _release(topology: Topology, host: str, state: NodeHost) -> list[Change]:
    """Let the wanted release run from the next start on; nothing when it does."""
    return [switch(topology, host, state)] if _runs_another(topology, host, state) else []


def _runs_another(topology: Topology, host: str, state: NodeHost) -> bool:
    """Whether the next start of a node is not the wanted release's."""
    return bool(state.binary) and state.binary != places.stored(digest(topology, host, state))


def check_leaving(topology: Topology, observed: Observed, *, node: str) -> list[Finding]:
    """A node may go: it is a worker, and the volumes are not there."""
    server = server_of(topology).name
    found = unseen(observed, NODES, Cause.K3S)
    api = observed.seen(NODES).get(server)
    if api and not api.answers:
        found.append(finding(server, "the API does not answer", api.said, "python runbooks/health.py"))
    elif api:
        found += _must_stay(server, node, api.nodes.nodes.get(node))
    return found


def _must_stay(server: str, name: str, node: Node | None) -> Iterator[Finding]:
    if name == server:
        advice = "Move it with a snapshot: docs/k3s.md"
        yield finding(server, "is the control plane, and cannot be taken out", "role k3s-server", advice)
    if node and node.labels.get(places.STORAGE_LABEL) == places.HERE:
        advice = "Hand the storage over first, then k3s_move.py; or leave the node in: its pods could run nowhere else"
        yield finding(name, "carries the volumes, and cannot be taken out", f"label {places.STORAGE_LABEL}", advice)


def plan_leave(topology: Topology, observed: Observed, *, node: str, unless_ready: bool = False) -> Plan:
    """Take a node out of the cluster; one that is ready is left alone when ``unless_ready``."""
    server = server_of(topology).name
    there = observed.of(NODES, server).nodes.nodes.get(node)
    if there is None or (unless_ready and there.ready is Truth.TRUE):
        return {}
    return {server: [forget(node)]}


def plan_stop(topology: Topology, observed: Observed, *, host: str) -> Plan:
    """Stop K3s on a host for good; its token, options and unit go. Its volumes and images stay where they are."""
    if host not in topology.hosts or not is_node(topology, topology.host(host)):
        return {}
    state = observed.of(K3S, host)
    stopped = unit(Unit(name=state.unit.name, seen=state.unit, enabled=False, active=False))
    token = [FileState(path=places.TOKEN)] if state.token else []
    files: list[Change] = [
        RemoveFile(path=file.path, seen=file) for file in (*token, *(one for one in state.files.values() if one.exists))
    ]
    reload = [RELOAD] if files else []
    return filled({host: [*stopped, *files, *reload]})
