"""What a host sees of the two replicas through the mesh: does one answer, and since when not?

A ping goes on for longer than WireGuard needs until it repeats a handshake (5.3 s): two that begin one in the same
moment cancel each other, and a witness must not call a living host gone for that. The replicas ask the arbitrator, too:
one that has just booted begins a session with it, where the arbitrator would trust in the old one for 15 s more.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from dockyard.observe import Domain
from dockyard.parsing import Printed
from dockyard.remote import Command, Outputs
from dockyard.topology import Host, Topology
from tasks.drbd.replica import REPLICAS

PING_S = 7
SEARCH_S = 20
PROBE = "witness"

_SCRIPT = r"""
ask() {{
  ping -n -q -c 1 -i 0.5 -w {ping_s} "$2" >/dev/null 2>&1
  printf 'ping|%s|%s\n' "$1" "$?"
  wg show {interface} dump 2>/dev/null | awk -F'\t' -v name="$1" -v want="$2/32" '
    NF == 8 && $4 == want {{ print "handshake|" name "|" $5 }}'
}}
{asks}
wait
lost=$({search})
[ -z "$lost" ] || printf 'lost||%s\n' "${{lost%%.*}}"
printf 'now||%s\n' "$(date +%s)"
"""

_SEARCH = """\
timeout {search_s} journalctl --no-pager --quiet --output=short-unix --lines=1 --grep='{lost}' _TRANSPORT=kernel |
  tail -n 1"""


def lost_contact(resource: str, *others: str) -> str:
    """A pattern for the kernel's line about the moment when DRBD lost its connection to one of ``others``.

    8.4 names no peer in it: ``drbd data: conn( Connected -> ...``, or ``VerifyS`` and the like when it was at work; 9
    does: ``drbd data dock-prod: conn( ...``.
    """
    at_work = "Verify[ST]|(Paused)?Sync(Source|Target|S|T)|WFBitMap[ST]|WFSyncUUID"
    return rf"drbd {resource}( ({'|'.join(others)}))?: .*conn\( (Connected|{at_work}) ->"


@dataclass(frozen=True, slots=True, kw_only=True)
class Witness:
    """What one host sees. ``answers`` by replica; ``silent_s`` are seconds since the last WireGuard handshake with it
    (none where there never was one). ``lost_s``: seconds since DRBD lost its connection here, also before this boot;
    None if its journal says nothing of it.
    """

    answers: Mapping[str, bool]
    silent_s: Mapping[str, int]
    lost_s: int | None


def _probes(topology: Topology, host: Host) -> Sequence[Command]:
    assert topology.cluster.drbd, "the domain concerns nobody without replication"
    others = [one for one in topology.with_role(*REPLICAS) if one.name != host.name]
    judge = [topology.host(topology.cluster.arbitrator)] if host.name != topology.cluster.arbitrator else []
    script = _SCRIPT.format(
        ping_s=PING_S,
        interface=shlex.quote(topology.cluster.wireguard.interface),
        asks="\n".join(f"ask {one.name} {one.wireguard.address} &" for one in [*others, *judge]),
        search=_search(topology.cluster.drbd.resource, [one.name for one in others]) if host.drbd else "",
    )
    return [Command(PROBE, ("sh", "-c", script), timeout_s=45)]


def _search(resource: str, others: Sequence[str]) -> str:
    """A log of gigabytes must not keep anybody from a failover: then since when is not known."""
    return _SEARCH.format(search_s=SEARCH_S, lost=lost_contact(resource, *others))


def _read(_topology: Topology, _host: Host, outputs: Outputs) -> Witness:
    return read_witness(outputs.text(PROBE))


def read_witness(text: str) -> Witness:
    """What the probe printed; raises ParseError for anything else, also when it ends early, or could not ask.

    Silence is exit code 1 of ping(8); any other means that nothing was asked.
    """
    printed = Printed(PROBE, text)
    rows = printed.rows("drbd_witness")
    for row in rows:
        if row["kind"] == "ping" and row["value"] not in {"0", "1"}:
            raise printed.error(0, f"could not ask {row['name']}: exit code {row['value']} of ping")
    now = next((int(row["value"]) for row in rows if row["kind"] == "now"), None)
    if now is None:
        raise printed.error(0, "ends before the host's clock")
    handshakes = {row["name"]: int(row["value"]) for row in rows if row["kind"] == "handshake"}
    lost = next((int(row["value"]) for row in rows if row["kind"] == "lost"), None)
    return Witness(
        answers={row["name"]: row["value"] == "0" for row in rows if row["kind"] == "ping"},
        silent_s={name: max(0, now - at) for name, at in handshakes.items() if at},
        lost_s=None if lost is None else max(0, now - lost),
    )


def _concerns(topology: Topology, host: Host) -> bool:
    return topology.cluster.drbd is not None and (host.drbd is not None or host.name == topology.cluster.arbitrator)


WITNESS = Domain("witness", _probes, _read, _concerns)
