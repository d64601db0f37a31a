"""What becomes of the replicated storage when hosts, sites or lines fail: a small model that is run, no list of cases.

A `World` is the cluster at one moment. `broken` lets a `Fault` happen, `mended` leaves only some of them, `failed_over`
is what an operator does; after each of them the world settles by the rules of Dockyard and DRBD:

* two hosts talk when both are on, no cut line lies between their sites, and one has an address that the other can use;
* at boot the host that the record names becomes Primary by itself only while it is connected to the other replica
  (`drbd-storage`), with DRBD 9, too: a replica keeps quorum with the tie-breaker, and its record may be an old one;
* DRBD 8.4 knows no quorum: a Primary writes on, whoever it sees;
* DRBD 9 with `quorum majority`, `on-no-quorum io-error` and a diskless tie-breaker: a Primary without quorum cannot
  write. A tie-breaker lets a replica *keep* quorum, it never gives quorum to one that has none, such as one that just
  booted (`calc_quorum` in LINBIT's drbd_state.c asks for `have_quorum[NOW]`). A Secondary that lost the Primary, while
  the tie-breaker still sees it, is outdated;
* what a replica wrote while the other did not hear it is history of its own; with such history on both sides they do
  not connect any more (split brain, all after-sb policies are `disconnect`). Two Primaries do not connect either.

A failover is `refusals`: empty when runbooks/failover.py --disaster would go on to ask for the phrase.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from enum import StrEnum
from itertools import combinations

from dockyard.errors import UsageError
from dockyard.topology import Role, Topology

Line = frozenset[str]
"""The two sites that a line connects."""


class Version(StrEnum):
    """Which DRBD the replicas run: they have different rules."""

    V84 = "8.4"
    V9 = "9"


@dataclass(frozen=True, slots=True)
class Setup:
    """What does not fail: the inventory, and which DRBD. ``writer`` was given the right to write first.

    ``ways`` are the pairs of hosts of which one has an address that the other can use. ``options`` follows every
    command that is shown, such as `` --inventory lab``.
    """

    topology: Topology
    version: Version
    writer: str
    other: str
    arbitrator: str
    ways: frozenset[frozenset[str]]
    options: str = ""

    @classmethod
    def of(cls, topology: Topology, version: Version, options: str = "") -> Setup:
        """Read the roles out of an inventory; raises UsageError where nobody replicates."""
        pairs = [topology.with_role(role) for role in (Role.DRBD_PRIMARY, Role.DRBD_SECONDARY)]
        if not all(pairs):
            raise UsageError(
                "the inventory describes no replication: nothing can fail over",
                advice="Give one host the role drbd-primary and one drbd-secondary in hosts.yaml.",
            )
        ways = frozenset(frozenset(pair) for pair in topology.directions() if topology.endpoint(*pair))
        writer, other = (hosts[0].name for hosts in pairs)
        return cls(topology, version, writer, other, topology.cluster.arbitrator, ways, options)

    @property
    def replicas(self) -> tuple[str, str]:
        return self.writer, self.other

    def peer(self, replica: str) -> str:
        """The replica that is not ``replica``."""
        return self.other if replica == self.writer else self.writer

    def site(self, host: str) -> str:
        return self.topology.host(host).site

    @property
    def sites(self) -> tuple[str, ...]:
        """In the order of the inventory."""
        return tuple(dict.fromkeys(host.site for host in self.topology.hosts.values()))

    def hosts_at(self, site: str) -> frozenset[str]:
        return frozenset(host.name for host in self.topology.hosts.values() if host.site == site)


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that fails: these hosts are ``off``, these lines are ``cut``. ``mended`` says that it is over."""

    name: str
    mended: str
    off: frozenset[str] = frozenset()
    cut: frozenset[Line] = frozenset()


def single_faults(setup: Setup) -> list[Fault]:
    """Every host, every line between two sites, every site cut off and without power; what is the same, once."""
    lines = [frozenset(pair) for pair in combinations(setup.sites, 2)]
    uplinks = {site: frozenset(line for line in lines if site in line) for site in setup.sites}
    named = [
        *(off(setup, host) for host in setup.topology.hosts),
        *(_no_line(*sorted(line)) for line in lines),
        *(Fault(f"{site} cut off", f"{site} is connected again", cut=cut) for site, cut in uplinks.items() if cut),
        *(
            Fault(f"{site} without power", f"{site} has power again", setup.hosts_at(site), cut)
            for site, cut in uplinks.items()
        ),
    ]
    first = {_effect(setup, fault): fault for fault in reversed(named)}
    return [fault for fault in named if first[_effect(setup, fault)] is fault]


def _effect(setup: Setup, fault: Fault) -> tuple[frozenset[str], frozenset[Line]]:
    return fault.off, felt(setup, fault.off, fault.cut)


def off(setup: Setup, host: str) -> Fault:
    """One host without power, crashed or hung."""
    alone = setup.hosts_at(setup.site(host)) == {host}
    name = f"{host} off" + (f" (all of {setup.site(host)})" if alone else "")
    return Fault(name, f"{host} is back", frozenset({host}))


def _no_line(one: str, two: str) -> Fault:
    return Fault(f"no line {one} - {two}", f"the line {one} - {two} is back", cut=frozenset({frozenset({one, two})}))


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """The cluster at one moment.

    ``primary`` have the role. ``quorate`` (have quorum), ``stopped`` (Primary, but the file system saw I/O errors and
    takes no write until it is mounted again) and ``outdated`` (know that their copy is old) are DRBD 9's. ``alone``
    hold history that the other replica does not have. ``record`` is the writer that the arbitrator names.
    """

    off: frozenset[str] = frozenset()
    cut: frozenset[Line] = frozenset()
    primary: frozenset[str]
    quorate: frozenset[str]
    stopped: frozenset[str] = frozenset()
    outdated: frozenset[str] = frozenset()
    alone: frozenset[str] = frozenset()
    record: str
    generation: int = 1


def healthy(setup: Setup) -> World:
    """Everything is on and connected, the writer writes."""
    both = frozenset(setup.replicas)
    return World(primary=frozenset({setup.writer}), quorate=both, record=setup.writer)


def talk(setup: Setup, world: World, one: str, two: str) -> bool:
    """Whether the mesh carries packets between two hosts."""
    if {one, two} & world.off:
        return False
    ends = frozenset({setup.site(one), setup.site(two)})
    return ends not in world.cut and frozenset({one, two}) in setup.ways


def connected(setup: Setup, world: World) -> bool:
    """Whether the replicas are connected, as DRBD sees it: two histories do not connect, nor do two Primaries."""
    twice = any(both.issuperset(setup.replicas) for both in (world.alone, world.primary))
    return talk(setup, world, *setup.replicas) and not twice


def writers(setup: Setup, world: World) -> frozenset[str]:
    """The hosts that can write now; more than one is the disaster that all of this is there to prevent."""
    able = world.primary - world.off
    return (able & world.quorate) - world.stopped if setup.version is Version.V9 else able


def broken(setup: Setup, world: World, fault: Fault) -> World:
    """``world`` after ``fault`` happened to it, when everything has settled."""
    return _settled(setup, replace(world, off=world.off | fault.off, cut=world.cut | fault.cut))


def mended(setup: Setup, world: World, left: Iterable[Fault] = ()) -> World:
    """``world`` when only the faults in ``left`` are still there; what was off has booted."""
    left = list(left)
    off = frozenset[str]().union(*(fault.off for fault in left))
    cut = frozenset[Line]().union(*(fault.cut for fault in left))
    return _settled(setup, replace(world, off=off, cut=cut))


def failed_over(setup: Setup, world: World, to: str) -> World:
    """``world`` after `failover.py --to TO --disaster` and the phrase; ask `refusals` first."""
    chosen = replace(world, record=to, generation=world.generation + 1, primary=world.primary | {to})
    return _settled(setup, chosen)


def _settled(setup: Setup, world: World) -> World:
    world = replace(world, primary=world.primary - world.off)
    quorate = frozenset(_quorate(setup, world))
    failed = world.primary - quorate if setup.version is Version.V9 else frozenset[str]()
    world = replace(world, quorate=quorate, stopped=(world.stopped & world.primary) | failed)
    if may_promote_itself(setup, world):
        world = replace(world, primary=world.primary | {world.record})
    if connected(setup, world):
        return replace(world, alone=frozenset(), outdated=frozenset())
    apart = world.alone | writers(setup, world)
    return replace(world, alone=apart, outdated=world.outdated | frozenset(_outdated(setup, world)))


def felt(setup: Setup, off: frozenset[str], cut: frozenset[Line]) -> frozenset[Line]:
    """The cut lines at whose both ends somebody is on."""
    lit = {setup.site(host) for host in setup.topology.hosts if host not in off}
    return frozenset(line for line in cut if line <= lit)


def alike(setup: Setup, world: World) -> World:
    """``world`` without the cuts that nobody feels: two worlds that behave alike become equal."""
    return replace(world, cut=felt(setup, world.off, world.cut))


def _quorate(setup: Setup, world: World) -> Iterator[str]:
    for replica in setup.replicas:
        kept = replica in world.quorate and talk(setup, world, replica, setup.arbitrator)
        if kept or connected(setup, world):
            yield replica


def _outdated(setup: Setup, world: World) -> Iterator[str]:
    for primary in world.primary if setup.version is Version.V9 else ():
        peer, judge = setup.peer(primary), setup.arbitrator
        if talk(setup, world, peer, judge) and talk(setup, world, judge, primary) and peer not in world.primary:
            yield peer


def may_promote_itself(setup: Setup, world: World) -> bool:
    """Whether `drbd-storage up`, which waits on the host that the record names since it booted, may go on."""
    host = world.record
    if host in world.off or host in world.outdated or world.primary:
        return False
    return connected(setup, world)


def reached(setup: Setup, world: World, controller: str | None) -> frozenset[str]:
    """The hosts that the machine with the runbooks reaches: all that are on, or what its site has a line to.

    ``controller`` is a site, or None for a place from where everybody who is on can be reached.
    """
    lit = frozenset(setup.topology.hosts) - world.off
    if controller is None:
        return lit
    return frozenset(host for host in lit if frozenset({controller, setup.site(host)}) not in world.cut)


class Refusal(StrEnum):
    """Why a failover does not go on to the phrase."""

    NO_ARBITRATOR = "the arbitrator cannot be reached"
    NO_TARGET = "the new writer cannot be reached"
    SEEN = "the writer can be reached"
    NO_WITNESS = "the arbitrator does not see the new writer either"
    OUTDATED = "the copy is outdated"
    NO_QUORUM = "there is no quorum"


def refusals(setup: Setup, world: World, to: str, controller: str | None = None) -> list[Refusal]:
    """Why `failover.py --to TO --disaster` would refuse; empty when it goes on to ask for the phrase."""
    reach = reached(setup, world, controller)
    tests = {
        Refusal.NO_ARBITRATOR: setup.arbitrator not in reach,
        Refusal.NO_TARGET: to not in reach,
        Refusal.SEEN: bool(sees_writer(setup, world, to, controller)),
        Refusal.NO_WITNESS: not talk(setup, world, setup.arbitrator, to),
        Refusal.OUTDATED: to in world.outdated,
        Refusal.NO_QUORUM: setup.version is Version.V9 and to not in world.quorate,
    }
    return [reason for reason, holds in tests.items() if holds]


def sees_writer(setup: Setup, world: World, to: str, controller: str | None = None) -> list[str]:
    """Who reaches the writer that ``to`` would replace: ``you``, the arbitrator, ``to``; nobody if it is ``to``."""
    if world.record == to:
        return []
    you = ["you"] if world.record in reached(setup, world, controller) else []
    return you + [host for host in (setup.arbitrator, to) if talk(setup, world, host, world.record)]
