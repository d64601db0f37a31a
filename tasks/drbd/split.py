"""Split brain: both replicas were written without the other. A person says whose history ends; a copy of it is kept.

Order: `check_split`, the page of `preflight_discard`, `plan_close`, `plan_keep`, then the record and its copies
(`switch.plan_new_writer`, `writer.plan_copies`), `plan_discard`; from there on the survivor is brought up like after a
disaster. Every plan is empty when the two are no longer split.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from dockyard.change import Plan, Run, joined
from dockyard.errors import NotObserved
from dockyard.findings import Cause, Finding
from dockyard.observe import Domain, Observed
from dockyard.steps import Page
from dockyard.topology import Topology
from dockyard.unseen import unseen
from tasks.drbd import view
from tasks.drbd.checks import contradicted, finding, seen_replicas
from tasks.drbd.generations import Relation, relation
from tasks.drbd.parted import CHANGES, Changes, Parted, backing, changes_of, looking, parted
from tasks.drbd.quantities import size
from tasks.drbd.replica import LIVE, other_of, replication_of
from tasks.drbd.state import Disk
from tasks.drbd.switch import USERS, plan_demote, plan_stop
from tasks.drbd.writer import WRITER, shown, writer_of

KEEP_TIMEOUT_S = 12 * 3600.0


class Keep(StrEnum):
    """What is kept of the side that is overwritten."""

    FILES = "files"
    """All files that changed since the contact was lost, as a tar archive."""
    IMAGE = "image"
    """The whole disk, compressed."""
    NOTHING = "nothing"


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """Whose history ends (``victim``), whose goes on (``survivor``), what is kept of the first one, and where."""

    victim: str
    survivor: str
    keep: Keep = Keep.FILES
    into: str = view.KEPT

    @property
    def parted(self) -> Domain[Parted]:
        """The domain that looks at the folder of the copies."""
        return parted(self.into)


def stand(topology: Topology, observed: Observed, domain: Domain[Parted]) -> Relation | None:
    """How the first replica stands to the second one by their generations; None while they are connected, or unread."""
    states = seen_replicas(topology, observed)
    ids = [observed.seen(domain)[host].generations if host in observed.seen(domain) else None for host in states]
    if len(states) != 2 or any(state.connected for state in states.values()):
        return None
    one, two = ids
    return relation(one, two) if one and two else None


def is_split(topology: Topology, observed: Observed, domain: Domain[Parted]) -> bool:
    """Both were written without the other, and they are not connected (which means that nothing was decided yet).

    Raises:
        NotObserved: they are apart, and one that has its disk did not tell its generations: that is not "not split".
    """
    states = seen_replicas(topology, observed)
    if len(states) == 2 and not any(state.connected for state in states.values()):
        for host, state in states.items():
            if state.attached and observed.of(domain, host).generations is None:
                advice = f"drbdadm get-gi {replication_of(topology).resource} on {host} says why; then this again"
                raise NotObserved(host, "did not tell the generations of its data", advice=advice)
    return stand(topology, observed, domain) is Relation.SPLIT


def lacking_kib(observed: Observed, domain: Domain[Parted], host: str) -> int:
    """How much ``host`` holds that the other one does not have, in KiB."""
    missing = observed.of(domain, host).missing_kib
    return observed.of(LIVE, host).out_of_sync_kib if missing is None else missing


def check_split(topology: Topology, observed: Observed, *, choice: Choice) -> list[Finding]:
    """They are split, or were and are being brought together; the survivor's copy is good, and a copy finds room."""
    blind = [one for domain in (LIVE, WRITER, choice.parted) for one in unseen(observed, domain, Cause.DRBD)]
    if blind:
        return blind
    if unsound := contradicted(topology, observed):
        return unsound
    if not is_split(topology, observed, choice.parted):
        return list(_together(topology, observed, choice))
    return [*_unfit(observed, choice), *_no_copy(topology, observed, choice)]


def _together(topology: Topology, observed: Observed, choice: Choice) -> Iterator[Finding]:
    """Why there is nothing to discard; nothing when it was discarded before, and only the rest is left to do."""
    states = seen_replicas(topology, observed)
    name, first = replication_of(topology).resource, next(iter(states))
    evidence = "; ".join(f"{host}: {state.sentence}" for host, state in states.items())
    if any(state.connected for state in states.values()):
        if states[choice.victim].primary or writer_of(topology, observed).writer == choice.victim:
            fault = f"there is no split brain: {choice.victim} is connected, and it is the writer"
            yield finding(choice.victim, fault, evidence, f"python runbooks/failover.py --to {choice.survivor}")
        return
    how = stand(topology, observed, choice.parted)
    if how is None:
        yield finding(first, "a replica without a disk has no history to compare", evidence, "docs/drbd.md")
    elif how is Relation.UNRELATED:
        advice = "These are two different sets of data: restore a backup, or make one of them anew (docs/drbd.md)"
        yield finding(first, f"{how.said(*states)}: DRBD never connects them", evidence, advice)
    else:
        fault = f"they are apart, and there is no split brain: {how.said(*states)}"
        advice = (
            f"Where it says StandAlone: drbdadm connect {name}. The one that goes on wins: what the other one wrote "
            "last and could not send is only there, and is overwritten (docs/drbd.md, When the writer returns)"
        )
        yield finding(first, fault, evidence, advice)


def _unfit(observed: Observed, choice: Choice) -> Iterator[Finding]:
    for host in (choice.victim, choice.survivor):
        state = observed.of(LIVE, host)
        if state.doubt:
            yield finding(host, "two readings of DRBD differ", state.doubt, "Look again")
    good = observed.of(LIVE, choice.survivor)
    if good.disk is not Disk.UP_TO_DATE:
        fault = f"its copy is {good.disk}: it cannot be the one that goes on"
        yield finding(choice.survivor, fault, good.sentence, f"--victim {choice.survivor} keeps the other one")
    if broken := observed.unseen(CHANGES).get(choice.survivor):
        fault = "its files cannot be read: it cannot be the one that goes on"
        advice = (
            f"Mend its file system, or make room for the look, first; --victim {choice.survivor} keeps the other one"
        )
        yield finding(choice.survivor, fault, str(broken), advice)


def _no_copy(topology: Topology, observed: Observed, choice: Choice) -> Iterator[Finding]:
    """Why no copy of the victim's data can be made; nothing when one is there already, or none is wanted."""
    there = kept_as(topology, observed, choice) in observed.of(choice.parted, choice.victim).kept
    if choice.keep is Keep.NOTHING or (there and not _is_older(topology, observed, choice)):
        return
    if choice.keep is Keep.FILES and choice.victim in observed.unseen(CHANGES):
        advice = "--keep image keeps the whole disk, whatever is on it"
        yield finding(choice.victim, "its files cannot be read", str(observed.unseen(CHANGES)[choice.victim]), advice)
        return
    seen, needed = observed.of(choice.parted, choice.victim), _needed(observed, choice)
    advice = "Name a folder on another disk (--into), or give it up for good: --keep nothing"
    if seen.room_on == replication_of(topology).device:
        fault = f"{choice.into} lies in the storage that is overwritten"
        yield finding(choice.victim, fault, seen.room_on, advice)
    elif seen.room_bytes < needed:
        evidence = f"{size(needed)} are needed at most, {size(seen.room_bytes)} are free"
        yield finding(choice.victim, f"there is no room in {choice.into} for a copy", evidence, advice)


def _needed(observed: Observed, choice: Choice) -> int:
    """Bytes that the copy may take: compression is not counted on, tar's headers are."""
    if choice.keep is Keep.IMAGE:
        return int(observed.of(choice.parted, choice.victim).disk_bytes * 1.01)
    changes = changes_of(observed, choice.victim)
    assert changes, "a victim whose files cannot be read was refused before"
    return int(changes.changed_bytes * 1.01) + (changes.count + 10) * 2048


def kept_as(topology: Topology, observed: Observed, choice: Choice) -> str:
    """The path of the copy: it is named after the generation that ends."""
    ids = observed.of(choice.parted, choice.victim).generations
    suffix = "disk.img.gz" if choice.keep is Keep.IMAGE else "files.tar.gz"
    return f"{choice.into}/{replication_of(topology).resource}-{ids.name if ids else ''}-{suffix}"


def preflight_discard(topology: Topology, observed: Observed, *, choice: Choice) -> Page | None:
    """Both sides, what is lost and what is kept, and the phrase that names the victim; None when nothing is left."""
    if not is_split(topology, observed, choice.parted):
        return None
    victim, survivor = choice.victim, choice.survivor
    lost = size(lacking_kib(observed, choice.parted, victim) * 1024)
    lines = (
        *(_side(observed, choice, host) for host in (survivor, victim)),
        f"{survivor} goes on. {victim} is overwritten: {lost} of blocks that only {victim} has.",
        *_files(observed, victim),
        _copy(topology, observed, choice),
        *_stops(observed, victim),
        f"The arbitrator names {shown(writer_of(topology, observed))}."
        + ("" if writer_of(topology, observed).writer == survivor else f" {survivor} is named instead."),
    )
    end = " and keep nothing" if choice.keep is Keep.NOTHING else ""
    return Page(lines=lines, phrase=f"discard {lost} of {victim}{end}".lower())


def _side(observed: Observed, choice: Choice, host: str) -> str:
    lacks = size(lacking_kib(observed, choice.parted, host) * 1024)
    return f"{host}: {observed.of(LIVE, host).sentence}; {lacks} that the other one lacks"


def _files(observed: Observed, victim: str) -> Iterator[str]:
    changes = changes_of(observed, victim)
    if changes is None:
        yield f"Its files cannot be read: {observed.unseen(CHANGES).get(victim)}"
        return
    yield f"{changed(changes)}. The newest:"
    yield from (f"  {young.path} ({size(young.size_bytes)})" for young in changes.newest)


def changed(changes: Changes) -> str:
    """How many files are young, in a sentence."""
    since = "since shortly before the contact was lost" if changes.lost_at else "in all; its log tells no time"
    return f"{changes.count} files of {size(changes.changed_bytes)} changed {since}"


def _copy(topology: Topology, observed: Observed, choice: Choice) -> str:
    if choice.keep is Keep.NOTHING:
        return "NO COPY is kept of it."
    path, seen = kept_as(topology, observed, choice), observed.of(choice.parted, choice.victim)
    if path in seen.kept and not _is_older(topology, observed, choice):
        return f"A copy ({size(seen.kept[path])}) is kept in {choice.victim}:{path} already."
    what = "its whole disk" if choice.keep is Keep.IMAGE else "these files, as they are now"
    needed = size(_needed(observed, choice))
    return (
        f"First a copy of {what} is made and compared: {choice.victim}:{path} "
        f"(at most {needed}; {size(seen.room_bytes)} are free). Files that were deleted there are not in it."
    )


def _stops(observed: Observed, victim: str) -> Iterator[str]:
    running = [name for name, state in observed.of(USERS, victim).units.items() if state.is_active]
    state = observed.of(LIVE, victim)
    if running or state.mounted or state.primary:
        stopped = f"{', '.join(running)} stopped, " if running else ""
        yield f"Before that, on {victim}: {stopped}the storage unmounted, DRBD demoted."


def plan_close(topology: Topology, observed: Observed, *, choice: Choice) -> Plan:
    """Stop what uses the storage on the victim, unmount and demote: from then on nothing changes there.

    A copy that was made before it was last written goes by another name from then on.
    """
    if not is_split(topology, observed, choice.parted):
        return {}
    closed = [plan(topology, observed, to=choice.survivor) for plan in (plan_stop, plan_demote)]
    old = [_set_aside(kept_as(topology, observed, choice))] if _is_older(topology, observed, choice) else []
    return joined(*closed, {choice.victim: old})


def _is_older(topology: Topology, observed: Observed, choice: Choice) -> bool:
    """A copy is there, and the victim has been written since, or may be: it is Primary, or mounted.

    Its generation does not tell: DRBD begins a new one only when it has no bitmap yet (`drbd_set_role`).
    """
    state = observed.of(LIVE, choice.victim)
    there = kept_as(topology, observed, choice) in observed.of(choice.parted, choice.victim).kept
    return there and (state.primary or state.mounted)


def _set_aside(path: str) -> Run:
    script = 'at=$(date -u -r "$1" +%Y%m%dT%H%M%SZ) && mv -- "$1" "$1.$at" && mv -- "$1.sha256" "$1.$at.sha256"'
    return Run(title=f"set the older copy {path} aside", argv=("sh", "-c", script, "aside", path))


_KEEP = r"""
case $(drbdadm role "$name") in Secondary*) ;; *) echo "$name is not Secondary here" >&2; exit 75 ;; esac
"""
_KEEP_AS = {Keep.FILES: 'open_view && keep_files "$1"', Keep.IMAGE: 'keep_image "$1"'}


def plan_keep(topology: Topology, observed: Observed, *, choice: Choice) -> Plan:
    """Make a copy of what ends, compare it with what it is a copy of, and write its checksum beside it."""
    path = kept_as(topology, observed, choice)
    done = not is_split(topology, observed, choice.parted) or path in observed.of(choice.parted, choice.victim).kept
    if done or choice.keep is Keep.NOTHING:
        return {}
    script = looking(topology, topology.host(choice.victim), _KEEP + _KEEP_AS[choice.keep])
    whole = f"{{\n{script}\nexit; }}\n".encode()  # read to its end before it begins
    argv = ("sh", "-s", "--", path)
    return {choice.victim: [Run(title=f"keep a copy in {path}", argv=argv, stdin=whole, timeout_s=KEEP_TIMEOUT_S)]}


_MEET = r"""
n=0
until case $(drbdadm cstate "$connection" 2>/dev/null) in
    Connected | StartingSync* | WFBitMap* | WFSync* | Sync* | PausedSync*) ;; *) false ;; esac
do
    [ $((n += 1)) -le 150 ] || { echo "no contact within a minute: $(drbdadm cstate "$connection" 2>&1)" >&2; exit 1; }
    sleep 0.4
done"""

_YOUNGER = r"""
newest=$(find "$root" -xdev -newercm "$1.sha256" -print -quit) || exit
[ -z "$newest" ] || { echo "$newest was written after the copy $1: move that away, run this again" >&2; exit 75; }
"""
_LOOK_AGAIN = {
    Keep.FILES: f"open_view || exit\n{_YOUNGER}",
    Keep.IMAGE: f'if open_view; then\n{_YOUNGER}\nelse gzip -dc <"$1" | cmp - "$disk"; fi',
}
"""Files that cannot be read are compared as blocks."""


def _look_again(topology: Topology, choice: Choice, path: str) -> Run:
    script = looking(topology, topology.host(choice.victim), _LOOK_AGAIN[choice.keep])
    argv = ("sh", "-s", "--", path)
    title = f"see that nothing was written since the copy {path}"
    return Run(title=title, argv=argv, stdin=f"{{\n{script}\nexit; }}\n".encode(), timeout_s=KEEP_TIMEOUT_S)


_GIVE_UP = (
    r"""
connection=$1 name=$2 generation=$3 kept=$4
case $(drbdadm role "$name") in Secondary*) ;; *) echo "$name is not Secondary here" >&2; exit 75 ;; esac
seen=$(drbdadm get-gi "$connection") || exit
case $seen in "$generation"*) ;; *) echo "it was written again since: $seen" >&2; exit 75 ;; esac
[ -z "$kept" ] || [ -s "$kept.sha256" ] || { echo "there is no copy in $kept" >&2; exit 75; }
drbdadm disconnect "$connection" 2>/dev/null
drbdadm connect --discard-my-data "$connection" || exit
"""
    + _MEET
)

GO_ON = (
    r"""
connection=$1
[ "$(drbdadm cstate "$connection")" != StandAlone ] || drbdadm connect "$connection" || exit
"""
    + _MEET
)
"""Connect, unless that is being tried already, and wait until the two have met. Nothing is discarded by it."""


def plan_discard(topology: Topology, observed: Observed, *, choice: Choice) -> Plan:
    """Connect, with the victim told to discard what it has. It looks once more whether that is what was shown."""
    if not is_split(topology, observed, choice.parted):
        return {}
    name = replication_of(topology).resource
    ids = observed.of(choice.parted, choice.victim).generations
    assert ids, "without generations nothing is split"
    kept = "" if choice.keep is Keep.NOTHING else kept_as(topology, observed, choice)
    words = (connection(topology, observed, choice.victim), name, ids.name[:-1], kept)
    argv = ("sh", "-c", _GIVE_UP, "discard", *words)
    disk = backing(topology.host(choice.victim)).disk
    discard = Run(
        title=f"connect {name}, discarding what is here",
        argv=argv,
        timeout_s=90,
        destroys=f"{choice.victim}:{disk}",
    )
    other = ("sh", "-c", GO_ON, "connect", connection(topology, observed, choice.survivor))
    again = [_look_again(topology, choice, kept)] if kept else []
    return {choice.victim: [*again, discard], choice.survivor: [Run(title=f"connect {name}", argv=other, timeout_s=90)]}


def connection(topology: Topology, observed: Observed, host: str) -> str:
    """What drbdadm(8) calls the connection of ``host`` to the other replica: DRBD 9 has one to the tie-breaker, too."""
    name = replication_of(topology).resource
    return f"{name}:{other_of(topology, host)}" if observed.of(LIVE, host).facts.is_9 else name


def named(choice: Choice, topology: Topology) -> frozenset[str]:
    """What ``--victim`` names on the command line, in the form of ``--destroy``."""
    return frozenset({f"{choice.victim}:{backing(topology.host(choice.victim)).disk}"})
