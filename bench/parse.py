"""Measure how the readers of long outputs scale, against netmiko's way of using TextFSM on the same text and template.

Doubling the text should double the time. netmiko's `get_structured_data` is what `send_command(use_textfsm=True)` and
ntc-templates run: one template, one list of dictionaries, nothing checked. Both run in this process, in turn.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from netmiko.utilities import get_structured_data  # noqa: E402

from dockyard.parsing import TEMPLATES  # noqa: E402
from tasks.drbd.status import read_status  # noqa: E402
from tasks.pacemaker.crm_mon import read as read_crm_mon  # noqa: E402

ROUNDS = 7
SIZES = {"crm_mon": (25, 50, 100, 200), "drbdadm_status": (12, 25, 50, 100)}
LINEAR = 1.25
"""Eight times the text may take at most eight times the time, times this."""


def crm_mon(resources: int) -> str:
    """`crm_mon -1r` of Pacemaker 3.0 with so many primitives on two nodes."""
    lines = [
        "Cluster Summary:",
        "  * Stack: corosync (Pacemaker is running)",
        "  * Current DC: dock-prod (version 3.0.0-3.0.0) - partition with quorum",
        "  * Last updated: Mon Nov 23 08:56:05 2026 on dock-load",
        "  * Last change:  Mon Nov 23 08:55:16 2026 by root via root on dock-prod",
        "  * 2 nodes configured",
        f"  * {resources} resource instances configured",
        "",
        "Node List:",
        "  * Online: [ dock-mirror dock-prod ]",
        "",
        "Full List of Resources:",
        *(f"  * p_{number}\t(ocf:heartbeat:Filesystem):\t Started dock-prod" for number in range(resources)),
    ]
    return "\n".join(lines) + "\n"


def drbdadm_status(resources: int) -> str:
    """`drbdadm status` of DRBD 9 with so many resources, each with two peers."""
    one = """\
r{} role:Primary
  disk:UpToDate
  dock-load role:Secondary
    peer-disk:Diskless
  dock-mirror role:Secondary
    replication:SyncSource peer-disk:Inconsistent done:41.25

"""
    return "".join(one.format(number) for number in range(resources))


READERS: dict[str, tuple[Callable[[int], str], Callable[[str], object]]] = {
    "crm_mon": (crm_mon, read_crm_mon),
    "drbdadm_status": (drbdadm_status, read_status),
}


def seconds(call: Callable[[], object]) -> float:
    """CPU time of one call: other work on the machine does not count."""
    started = time.process_time()
    call()
    return time.process_time() - started


def measured(template: str, size: int) -> tuple[float, float]:
    """Median seconds of our reader and of netmiko's, which take turns."""
    make, read = READERS[template]
    text, path = make(size), str(TEMPLATES / f"{template}.textfsm")
    peers: tuple[Callable[[], object], ...] = (lambda: read(text), lambda: get_structured_data(text, template=path))
    times = [[seconds(peer) for peer in peers] for _ in range(ROUNDS + 1)][1:]
    ours, theirs = zip(*times, strict=True)
    return statistics.median(ours), statistics.median(theirs)


def main() -> None:
    for template, sizes in SIZES.items():
        print(f"\n{template}")
        found = {size: measured(template, size) for size in sizes}
        for size, (ours, theirs) in found.items():
            print(
                f"  {size:4} resources {ours * 1000:8.1f} ms   {ours / theirs:5.2f} x netmiko ({theirs * 1000:.1f} ms)"
            )
        growth, factor = found[sizes[-1]][0] / found[sizes[0]][0], sizes[-1] / sizes[0]
        verdict = "linear" if growth <= factor * LINEAR else "MORE THAN LINEAR"
        print(f"  {factor:g} times the text takes {growth:.1f} times the time: {verdict}")


if __name__ == "__main__":
    main()
