"""What must not be there: DRBD and Pacemaker that nobody asked for, and guests on hosts that have to stay free of them.

Phase 1 is a plain cluster: no DRBD in productive use, no Pacemaker, no automatic failover. What counts is what the
inventory says (docs/services.md, "The bounds of phase 1"):

* the resource and the device of ``cluster.drbd`` belong to its replicas and to the arbitrator (DRBD 9's tie-breaker);
  every other resource that is defined or up was made by somebody else, and without ``cluster.drbd`` all of them were;
* Corosync and Pacemaker belong to nobody yet: the inventory has no phase 3.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from dockyard.findings import Cause, Finding
from dockyard.observe import Domain, Observed
from dockyard.parsing import Printed
from dockyard.remote import Command, Outputs
from dockyard.topology import Host, Role, Topology
from dockyard.unseen import unseen

AUTOMATIC = ("corosync.service", "pacemaker.service")
GUESTS = {"ollama.service": "Ollama", "libvirtd.service": "libvirt", "virtqemud.service": "libvirt"}
NODES = {"k3s.service": Role.K3S_SERVER, "k3s-agent.service": Role.K3S_WORKER}
_KEPT_CLEAR = {Role.K3S_SERVER, Role.K3S_WORKER, Role.DRBD_PRIMARY, Role.DRBD_SECONDARY, Role.ARBITRATOR}

_PROBE = "bounds"
_ASK = f"""\
systemctl show --property=Id,ActiveState,UnitFileState -- {" ".join((*AUTOMATIC, *GUESTS, *NODES))} || exit
for device in /sys/block/drbd*; do [ ! -e "$device" ] || printf 'device|%s\\n' "${{device##*/}}"; done
for file in /etc/drbd.d/*.res; do [ -e "$file" ] || continue
  sed -n 's/^[[:space:]]*resource[[:space:]]\\{{1,\\}}"\\{{0,1\\}}\\([^"{{[:space:]]*\\).*/resource|\\1/p' "$file"
done"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A unit that says which part a host plays: ``ActiveState`` and ``UnitFileState`` of systemctl(1)."""

    active: str
    enabled: str

    @property
    def there(self) -> bool:
        """Whether it runs, tries to, or will after the next boot."""
        return self.active not in {"inactive", "failed", "unknown"} or self.enabled in {"enabled", "enabled-runtime"}

    def __str__(self) -> str:
        return f"{self.active}, {self.enabled or 'not installed'}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """``parts`` by unit; DRBD's ``devices`` that are up (``drbd0``), and the ``resources`` in its files."""

    parts: Mapping[str, Part]
    devices: tuple[str, ...]
    resources: tuple[str, ...]

    def there(self, *units: str) -> list[str]:
        """Those of ``units`` that are there, with their states."""
        return [f"{name} is {self.parts[name]}" for name in units if self.parts[name].there]


def _probes(_topology: Topology, _host: Host) -> Sequence[Command]:
    return [Command(_PROBE, ("sh", "-c", _ASK))]


def _read(_topology: Topology, _host: Host, outputs: Outputs) -> Bounds:
    return read_bounds(outputs.text(_PROBE))


def read_bounds(text: str) -> Bounds:
    """What the probe printed; raises ParseError for an unknown line or a unit that was not told of."""
    printed = Printed(_PROBE, text)
    rows = printed.rows("bounds")
    parts = {row["unit"]: Part(active=row["active"], enabled=row["enabled"]) for row in rows if row["unit"]}
    if missing := {*AUTOMATIC, *GUESTS, *NODES} - parts.keys():
        raise printed.error(0, f"does not tell of {', '.join(sorted(missing))}")
    return Bounds(
        parts=parts,
        devices=tuple(row["device"] for row in rows if row["device"]),
        resources=tuple(row["resource"] for row in rows if row["resource"]),
    )


BOUNDS = Domain("bounds of phase 1", _probes, _read)


def check_plain(topology: Topology, observed: Observed) -> list[Finding]:
    """No DRBD but the inventory's, no Pacemaker, no Corosync. What could not be looked at is a finding, too."""
    states = observed.seen(BOUNDS)
    found = [finding for host, state in states.items() for finding in _beyond(topology, topology.host(host), state)]
    return [*unseen(observed, BOUNDS, Cause.MACHINE), *found]


def _beyond(topology: Topology, host: Host, state: Bounds) -> Iterator[Finding]:
    devices, resources = _ours(topology, host)
    evidence = [f"/dev/{name} is up" for name in state.devices if name not in devices]
    evidence += [f"/etc/drbd.d defines {name}" for name in state.resources if name not in resources]
    if evidence:
        yield Finding(
            cause=Cause.DRBD,
            host=host.name,
            fault="DRBD is in use, and the inventory does not know of it",
            evidence="; ".join(evidence),
            advice=f"Whose data is it? On {host.name}: drbdadm status; cat /etc/drbd.d/*.res. Describe it as "
            "cluster.drbd; or, when nobody needs it: drbdadm down RESOURCE, and move its file out of /etc/drbd.d",
        )
    if automatic := state.there(*AUTOMATIC):
        yield Finding(
            cause=Cause.PACEMAKER,
            host=host.name,
            fault="Pacemaker is here, and nothing may fail over by itself yet",
            evidence="; ".join(automatic),
            advice=f"On {host.name}: crm_mon -1 shows what it runs; systemctl disable --now pacemaker corosync",
        )


def _ours(topology: Topology, host: Host) -> tuple[set[str], set[str]]:
    """The DRBD devices and resources that the inventory gives to ``host``."""
    wanted = topology.cluster.drbd
    if wanted is None or not (host.drbd or host.name == topology.cluster.arbitrator):
        return set(), set()
    return {f"drbd{wanted.minor}"}, {wanted.resource}


def check_apart(topology: Topology, observed: Observed) -> list[Finding]:
    """No guests beside K3s and replicas, and K3s only where the inventory says.

    That the guests' own host is no peer of DRBD or Corosync either is said by `check_plain`.
    """
    states = observed.seen(BOUNDS)
    return [finding for host, state in states.items() for finding in _mixed(topology.host(host), state)]


def _mixed(host: Host, state: Bounds) -> Iterator[Finding]:
    for unit, name in GUESTS.items() if host.roles & _KEPT_CLEAR else ():
        for evidence in state.there(unit):
            fault = f"{name} is beside K3s, a replica or the arbitrator"
            yield _finding(host, Cause.APPLICATION, fault, evidence, f"systemctl disable --now {unit}")
    for unit, role in NODES.items():
        for evidence in state.there(unit) if role not in host.roles else ():
            fault = f"{unit} is on a host without the role {role}"
            yield _finding(host, Cause.K3S, fault, evidence, f"systemctl disable --now {unit}")


def _finding(host: Host, cause: Cause, fault: str, evidence: str, command: str) -> Finding:
    return Finding(cause=cause, host=host.name, fault=fault, evidence=evidence, advice=f"On {host.name}: {command}")
