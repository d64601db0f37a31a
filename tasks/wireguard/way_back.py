"""The way back of a key rotation: what a host keeps until the new key is proven, and the timer that brings it back.

While the timer runs, nobody else may write what it would replace. A timer is gone after a reboot and the old files are
not, so they are left over then; which key holds was decided by the key file, and they can go.
"""

from __future__ import annotations

from collections.abc import Mapping

from dockyard.change import Change, Run, WriteFile
from dockyard.errors import StepFailed
from dockyard.files import FileState
from dockyard.findings import Cause, Finding
from dockyard.observe import Observed
from dockyard.rendering import render
from dockyard.topology import Topology
from tasks.wireguard import places
from tasks.wireguard.state import WIREGUARD, WireguardState

WAY_BACK_S = 180
"""Seconds until a host looks whether the new key works: time to prove it first, and short enough to be cut off."""

DECIDES_S = 45
"""Seconds that a host needs to decide then: up to 8 s for a ping to each peer (see `reach.DEADLINE_S`), and wg-sync."""

_ARM = """\
systemctl stop {unit}.timer {unit}.service 2>/dev/null
set -e; cd /etc/wireguard
cp -p -f "$1.conf" "$1.conf.old"; cp -p -f "$1.key" "$1.key.old"; sync "$1.conf.old" "$1.key.old"
systemd-run --quiet --collect --unit={unit} --on-active={seconds} --timer-property=AccuracySec=1s /bin/sh {back}"""

_DECIDED = """\
if systemctl -q is-active {unit}.service || [ ! -e "/etc/wireguard/$1.key.old" ]; then
  echo "the way back has begun to decide: python runbooks/health.py says which key holds" >&2; exit 75
fi
"""
_SETTLE = """\
systemctl stop {unit}.timer {unit}.service 2>/dev/null
cd /etc/wireguard && rm -f -- "$1.conf.old" "$1.key.old" "$1.key.new" {back}"""


def armed(interface: str, addresses: list[str]) -> list[Change]:
    """Keep the old state, and have it brought back unless one of ``addresses`` answers when the time is over."""
    text = render("wg-back", interface=interface, addresses=addresses, sync=places.SYNC, back=places.BACK)
    seen = FileState(path=places.BACK)
    arm = _ARM.format(unit=places.BACK_UNIT, seconds=WAY_BACK_S, back=places.BACK)
    title = f"start the way back: in {WAY_BACK_S} s, unless {' or '.join(addresses)} answers through the mesh"
    return [
        WriteFile(path=places.BACK, content=text, seen=seen, mode=0o700, validate=("sh", "-n", "{}")),
        Run(title=title, argv=("sh", "-c", arm, "arm", interface)),
    ]


def settle(interface: str, title: str, *, pending: bool = False) -> Change:
    """Stop the way back and forget what it kept; ``pending``: only if it has not begun to decide."""
    script = (_DECIDED if pending else "") + _SETTLE
    script = script.format(unit=places.BACK_UNIT, back=places.BACK)
    return Run(title=title, argv=("sh", "-c", script, "settle", interface))


def left_over(state: WireguardState, interface: str) -> list[str]:
    """Files of a rotation that are still there: the old state, and a new key that nobody uses."""
    unused = [f"{interface}.key.new"] if state.next_key is not None else []
    return [*state.kept, *unused]


def forget_left_over(interface: str, state: WireguardState) -> list[Change]:
    """What a rotation that was cut off left behind, once nothing can bring it back any more.

    To be done after the running interface got its key from the key file: only then is the old one worth nothing.
    """
    names = left_over(state, interface)
    if not names or state.armed_s is not None:
        return []
    return [settle(interface, f"forget what a key rotation left behind: {', '.join(names)}")]


def refuse_pending(observed: Observed) -> None:
    """Raise StepFailed while a way back is pending somewhere: it would replace what is written now."""
    pending = _pending(observed)
    if pending:
        raise StepFailed(
            "\n".join(f"{host}: a key rotation is not settled; {_fires(state)}" for host, state in pending.items()),
            advice=f"Nothing was done on any host. {_wait(pending)}, then run this again.",
        )


def check_way_back(_topology: Topology, observed: Observed) -> list[Finding]:
    """One finding while a way back is pending on some host. Needs `WIREGUARD` only."""
    pending = _pending(observed)
    advice = (
        f"If rotate_keys.py still runs, let it end. Else: {_wait(pending)}, then python runbooks/phase1_baseline.py"
    )
    return [_finding(pending, {host: _fires(state) for host, state in pending.items()}, advice)] if pending else []


def check_rotation(topology: Topology, observed: Observed) -> list[Finding]:
    """What is not settled of a key rotation: a pending way back, and files that one left behind."""
    interface = topology.cluster.wireguard.interface
    seen = {host: state for host, state in observed.seen(WIREGUARD).items() if state.armed_s is None}
    left = {host: state for host, state in seen.items() if left_over(state, interface)}
    said = {host: f"left over are {', '.join(left_over(state, interface))}" for host, state in left.items()}
    advice = "python runbooks/phase1_baseline.py removes them; the key in use stays"
    return [*check_way_back(topology, observed), *([_finding(left, said, advice)] if left else [])]


def _pending(observed: Observed) -> dict[str, WireguardState]:
    return {host: state for host, state in observed.seen(WIREGUARD).items() if state.armed_s is not None}


def _left_s(state: WireguardState) -> int:
    return max(0, WAY_BACK_S - (state.armed_s or 0))


def _fires(state: WireguardState) -> str:
    seconds = _left_s(state)
    if seconds:
        return f"{places.BACK_UNIT}.timer decides in {seconds} s which key holds"
    log = f"journalctl -u {places.BACK_UNIT}.service"
    return f"{places.BACK_UNIT}.timer decides now which key holds, or waits until wg-sync ends ({log} there)"


def _wait(pending: Mapping[str, WireguardState]) -> str:
    return f"Wait {max(map(_left_s, pending.values()), default=0) + DECIDES_S} s until every host has decided"


def _finding(states: Mapping[str, WireguardState], said: Mapping[str, str], advice: str) -> Finding:
    """One finding for all hosts of one rotation, on the host whose key it renews as far as that can be seen."""
    renewed = [host for host, state in states.items() if state.key_renewed or state.next_key is not None]
    name = ", ".join(renewed)
    return Finding(
        cause=Cause.MESH,
        host=renewed[0] if renewed else next(iter(states)),
        fault=f"a key rotation{f' of {name}' if name else ''} is not settled",
        evidence="; ".join(f"{host}: {text}" for host, text in said.items()),
        advice=advice,
    )
