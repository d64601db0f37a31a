"""Handing the storage over without a runbook: what a person types, as root, on which host, and what must appear.

The same order and the same rules as `switch` and `disaster`: nobody is forced, the arbitrator's record moves first, and
what is left behind is a state in which the runbooks find nothing wrong. The sentences around the commands stand in
templates/document, in each language.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from dockyard import lease
from dockyard.topology import Role, Topology
from tasks.drbd import places, sizing
from tasks.drbd.failures import Version
from tasks.drbd.places import TOKEN
from tasks.drbd.replica import other_of, replication_of
from tasks.drbd.witness import PING_S, lost_contact

ANY = "…"
"""Stands for what nobody can know before, within one line."""

GENERATION = f"$(sed -n s/^generation=//p {places.WRITER})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Typed:
    """What is typed in one go as root on ``host``, and what must appear then, by version of DRBD (``""``: nothing).

    ``again``: it takes a while, and is typed again until it appears. A line of ``command`` with `ANY` in it is not
    typed as it stands: another host has printed the whole line.
    """

    host: str
    command: str
    prints: Mapping[Version, str]
    again: bool = False

    @property
    def same(self) -> str | None:
        """What appears with every version, None where they differ."""
        texts = set(self.prints.values())
        return texts.pop() if len(texts) == 1 else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Hands:
    """What can be typed in one cluster; ``versions`` are those of DRBD that its replicas may run."""

    topology: Topology
    versions: Sequence[Version] = tuple(Version)

    @property
    def arbitrator(self) -> str:
        return self.topology.cluster.arbitrator

    @property
    def mount(self) -> str:
        return replication_of(self.topology).mount

    @property
    def token(self) -> str:
        return f"{self.mount}/{TOKEN}"

    @property
    def waiting_kib(self) -> int:
        """What DRBD's send buffer holds at the most: lost with a writer that dies."""
        return sizing.send_buffer_kib(replication_of(self.topology).wan)

    @property
    def pair(self) -> tuple[str, str]:
        """The first writer and the other replica."""
        first = self.topology.with_role(Role.DRBD_PRIMARY)[0].name
        return first, other_of(self.topology, first)

    def nobody_else(self) -> Typed:
        """No run of Dockyard is changing the cluster now."""
        return self._typed(self.arbitrator, f"[ ! -e {lease.PATH} ] || cat {lease.PATH}", "")

    def writer(self, host: str, named: str) -> Typed:
        """The record on ``host`` names ``named``."""
        return self._typed(host, f"cat {places.WRITER}", _record(named))

    def status(self, host: str, *, role: str, peer: str, again: bool = False) -> Typed:
        """What DRBD says on a replica; ``peer`` is the role of the other one, or ``""`` when it is gone.

        Through cat(1): at a terminal drbdsetup (9.22, ``isatty``) leaves ``peer-client`` out, and adds colours.
        """
        texts = {version: self._status(version, host, role, peer) for version in self.versions}
        return Typed(
            host=host,
            command=f"drbdadm status {replication_of(self.topology).resource} | cat",
            prints=texts,
            again=again,
        )

    def _status(self, version: Version, host: str, role: str, peer: str) -> str:
        other = other_of(self.topology, host)
        named = version is Version.V9
        lines = [f"{replication_of(self.topology).resource} role:{role}", "  disk:UpToDate"]
        peers = {other if named else "peer": _peer(peer, named=named)}
        if named:
            peers[self.arbitrator] = (" role:Secondary", "    peer-disk:Diskless peer-client:yes")
        for name in sorted(peers):
            first, *rest = peers[name]
            lines += [f"  {name}{first}", *rest]
        return "\n".join(lines)

    def write_token(self, host: str) -> Typed:
        """Flush the storage of the old writer ``host``, write what must be found on the other side, and tell when."""
        flush = f"sync -f {replication_of(self.topology).mount}"
        script = (
            f"{flush}\necho $(({GENERATION} + 1)) >{self.token}\nsync {self.token}\ncat {self.token}\ndate +%FT%T%z"
        )
        return self._typed(host, script, f"{ANY}\n{ANY}")

    def mark(self, host: str) -> Typed:
        """Write the generation of the record into the storage: this is the history that goes on (see `disaster`)."""
        script = f"sed -n s/^generation=//p {places.WRITER} >{self.token}\nsync {self.token}\ncat {self.token}"
        return self._typed(host, script, ANY)

    def read_token(self, host: str) -> Typed:
        """The token is the generation that the record names by now."""
        return self._typed(host, f"cat {self.token}\nsed -n s/^generation=//p {places.WRITER}", f"{ANY}\n{ANY}")

    def stop_units(self, host: str) -> Typed | None:
        """Stop what uses the storage, in the order of the inventory; None where nothing is known to."""
        units = replication_of(self.topology).units
        return self._units(host, [f"systemctl stop -- {unit}" for unit in units])

    def start_units(self, host: str) -> Typed | None:
        """Start it again, the last one first."""
        units = reversed(replication_of(self.topology).units)
        return self._units(host, [f"systemctl start -- {unit}" for unit in units])

    def _units(self, host: str, lines: Sequence[str]) -> Typed | None:
        return self._typed(host, "\n".join(lines), "") if lines else None

    def demote(self, host: str) -> Typed:
        """Unmount and demote."""
        return self._typed(host, f"systemctl stop {places.STORAGE} && {places.GUARD} down", "")

    def all_sent(self, host: str) -> Typed:
        """No block is out of sync."""
        script = "drbdsetup status --verbose --statistics RESOURCE | grep -o 'out-of-sync:[0-9]*' | sort -u"
        script = script.replace("RESOURCE", replication_of(self.topology).resource)
        return self._typed(host, script, "out-of-sync:0", again=True)

    def name_writer(self, host: str, writer: str, *, ahead: int = 1) -> Typed:
        """Name ``writer`` in the record on ``host``, ``ahead`` generations later; prints the line for the other hosts.

        Two after a disaster (see `disaster.plan_new_writer_alone`). Typed twice it changes nothing the second time.
        """
        script = f"""\
cd {shlex.quote(places.WRITER.rpartition("/")[0])}
if ! grep -qx writer={writer} writer; then
  printf 'writer={writer}\\ngeneration=%s\\nsince=%s\\n' $(({GENERATION} + {ahead})) $(date -u +%FT%TZ) >writer.new
  sync writer.new && mv writer.new writer && sync .
fi
{self.show_line(host, writer).command}"""
        return self._typed(host, script, self._line(writer))

    def show_line(self, host: str, writer: str) -> Typed:
        """Print the line that brings the record of another host in line with the one of ``host``."""
        script = r"""awk '{r = r $0 "\\n"} END {print "printf \047" r "\047 >" FILENAME}' """
        return self._typed(host, script + places.WRITER, self._line(writer))

    @staticmethod
    def _line(writer: str) -> str:
        return f"printf 'writer={writer}\\ngeneration={ANY}\\nsince={ANY}\\n' >{places.WRITER}"

    def copy(self, host: str, writer: str) -> Typed:
        """Type the line that `name_writer` printed, and read it back."""
        return self._typed(host, f"{self._line(writer)}\ncat {places.WRITER}", _record(writer))

    def drain(self, host: str) -> Typed | None:
        """End the pods on ``host`` with volumes in the storage: each has it mounted by itself. None without any."""
        k3s = self.topology.cluster.k3s
        if not k3s or k3s.volumes.path != self.mount or not self.topology.host(host).is_k3s_node:
            return None
        server = self.topology.with_role(Role.K3S_SERVER)[0].name
        drain = f"k3s kubectl drain {host} --ignore-daemonsets --delete-emptydir-data --timeout=300s"
        return self._typed(server, f"{drain} >/dev/null && echo drained", "drained", again=True)

    def start_storage(self, host: str) -> Typed:
        """Let a replica promote itself and mount, once that is safe; it waits by itself until then."""
        return self._typed(host, f"systemctl start --no-block {places.STORAGE}", "")

    def promote_alone(self, host: str) -> Typed:
        """Promote without the other side, never by force, then let the unit mount."""
        name = replication_of(self.topology).resource
        script = (
            f"systemctl stop {places.STORAGE}\ndrbdadm primary {name} && systemctl start --no-block {places.STORAGE}"
        )
        return self._typed(host, script, "")

    def mounted(self, host: str) -> Typed:
        """The storage is there."""
        return self._typed(host, f"mountpoint {self.mount}", f"{self.mount} is a mountpoint", again=True)

    def who_answers(self, host: str, *, silent: str, answers: str) -> Typed:
        """Ask two hosts through the mesh, each for as long as WireGuard needs to begin anew."""
        script = f"""\
for name in {silent}:{self._address(silent)} {answers}:{self._address(answers)}; do
  said="is silent"
  ping -n -q -c 1 -i 0.5 -w {PING_S} ${{name#*:}} >/dev/null 2>&1 && said=answers
  echo ${{name%:*}} $said
done"""
        return self._typed(host, script, f"{silent} is silent\n{answers} answers")

    def last_contact(self, host: str) -> Typed:
        """The kernel's line about the moment when the connection broke; ``none`` if the journal has none."""
        pattern = lost_contact(replication_of(self.topology).resource, other_of(self.topology, host))
        script = (
            "journalctl --no-pager --quiet --output=short-iso --lines=1 "
            f"--grep='{pattern}' _TRANSPORT=kernel | tail -n 1 | grep . || echo none"
        )
        return self._typed(host, script, ANY)

    def _address(self, host: str) -> str:
        return str(self.topology.host(host).wireguard.address)

    def _typed(self, host: str, command: str, prints: str, *, again: bool = False) -> Typed:
        return Typed(host=host, command=command, prints=dict.fromkeys(self.versions, prints), again=again)


def _record(writer: str) -> str:
    return f"writer={writer}\ngeneration={ANY}\nsince={ANY}"


def _peer(role: str, *, named: bool) -> tuple[str, ...]:
    """The other replica, as DRBD 9 (``named``) and 8.4 show it (recorded: tests/samples/drbdadm_status)."""
    if not role:
        return (" connection:Connecting",)
    established = "" if named else "replication:Established "
    return f" role:{role}", f"    {established}peer-disk:UpToDate"
