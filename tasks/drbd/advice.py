"""What is wrong with a line for a load, and what to do about it; pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from dockyard.findings import Cause, Finding
from dockyard.topology import Wan
from tasks.drbd import sizing, wan
from tasks.drbd.quantities import size, span
from tasks.drbd.wan import Load

OFF = 1.5
"""By which factor a number of the inventory may differ from what was measured."""

SEED_S = 2 * 86400
"""An initial sync longer than this is one to make by disk."""

AGAIN = "then python runbooks/phase2_drbd.py"


@dataclass(frozen=True, slots=True, kw_only=True)
class Where:
    """Names for what is to be typed."""

    resource: str
    primary: str
    secondary: str

    def finding(self, *, fault: str, evidence: str, advice: str) -> Finding:
        """A finding between the two replicas."""
        return Finding(
            cause=Cause.DRBD, host=self.primary, subject=self.secondary, fault=fault, evidence=evidence, advice=advice
        )


def advise(line: Wan, load: Load, where: Where) -> list[Finding]:
    """Everything that is wrong, the worst first."""
    return [
        *_rate(line, load, where),
        *_share(line, load, where),
        *_buffer(line, where),
        *_first_copy(line, load, where),
    ]


def _mbit(bytes_s: float) -> str:
    return f"{bytes_s * 8 / 1e6:.3g} Mbit/s"


def _rate(line: Wan, load: Load, where: Where) -> Iterator[Finding]:
    rate = wan.line_bytes_s(line)
    if load.write_bytes_s >= rate:
        yield where.finding(
            fault="more is written than the line carries",
            evidence=f"{load.write_mbit:.3g} Mbit/s are written, the line carries {_mbit(rate)}: writers wait for "
            "ever; with pull-ahead the Secondary would never catch up",
            advice="Replicate less (a smaller device, scratch data elsewhere) or get a faster line. Was that rate not "
            "typical? Give --write-mbit.",
        )


def _share(line: Wan, load: Load, where: Where) -> Iterator[Finding]:
    """A resync should carry what is written, and leave as much to the writers: half of what the line carries does both,
    unless more than that is written.
    """
    rate, resync, writes = wan.line_bytes_s(line), wan.resync_bytes_s(line), load.write_bytes_s
    if writes >= rate:
        return
    if resync < writes:
        yield where.finding(
            fault="a resync gets less than what is written: a catch-up may take longer than its outage",
            evidence=f"a resync gets {_mbit(resync)}, {load.write_mbit:.3g} Mbit/s are written; a line that is down "
            f"more than {wan.outage(line, load).down_share:.0%} of the time may never let it catch up",
            advice=_better_share(line, load),
        )
    if rate < 0.99 * (writes + resync) and line.share < 1:
        yield where.finding(
            fault="a resync and the usual writes do not fit into the line together: writers wait while it lasts",
            evidence=f"resync {_mbit(resync)}, writes {load.write_mbit:.3g} Mbit/s, the line carries {_mbit(rate)}",
            advice=_better_share(line, load),
        )


def _better_share(line: Wan, load: Load) -> str:
    rate = wan.line_bytes_s(line)
    if load.write_bytes_s > rate / 2:
        return "No share does both, as more than half of the line is written: get a faster line, or replicate less."
    half = rate / 2 / (sizing.rate_kib_s(line) * sizing.KIB)
    return f"In defaults.yaml, cluster.drbd.wan: share: {half:.2g}; {AGAIN}"


def _buffer(line: Wan, where: Where) -> Iterator[Finding]:
    carried, rate = wan.line_bytes_s(line), sizing.rate_kib_s(line) * sizing.KIB
    if carried < rate * 0.99:
        yield where.finding(
            fault="one connection cannot fill this line",
            evidence=f"DRBD's send buffer is at most {size(sizing.send_buffer_kib(line) * sizing.KIB)}; with a round "
            f"trip of {line.rtt_ms:g} ms that is {_mbit(carried)} of {line.mbit:g} Mbit/s",
            advice=f"Plan with what it carries: --mbit {carried * 8 / 1e6:.3g}. Only LINBIT's DRBD Proxy buffers more.",
        )


def _first_copy(line: Wan, load: Load, where: Where) -> Iterator[Finding]:
    if load.size_bytes is None:
        return
    sync = wan.full_sync(line, load.size_bytes)
    if sync.share_s > SEED_S:
        yield where.finding(
            fault="the initial sync takes days",
            evidence=f"{size(load.size_bytes)} at {_mbit(wan.resync_bytes_s(line))}: {span(sync.share_s)}, during "
            f"which {where.secondary} cannot take over",
            advice=_faster(line, sync, where)
            + "carry the first copy there by disk: python runbooks/wan_plan.py --seed",
        )


def _faster(line: Wan, sync: wan.Sync, where: Where) -> str:
    if sync.line_s > 0.95 * sync.share_s:
        return "Have patience, or "
    return f"While nobody works, give it the whole line ({span(sync.line_s)}): {whole_line(line, where.resource)}. Or "


def whole_line(line: Wan, resource: str) -> str:
    """What to type on the Secondary, which asks for the blocks, and how to go back."""
    most = int(min(wan.line_bytes_s(line), 4 * 1024**3) // sizing.KIB)
    options = f"--c-max-rate={most}k --c-min-rate={most}k {resource}"
    return (
        f"`drbdadm disk-options {options}` (8.4) or `drbdadm peer-device-options {options}` (9) on both, "
        f"and `drbdadm adjust {resource}` afterwards"
    )


def compare(inventory: Wan, measured: Mapping[str, float], where: Where) -> list[Finding]:
    """Numbers of the inventory (``mbit``, ``rtt_ms``) that are off by more than `OFF` from what was measured."""
    told = {"mbit": (inventory.mbit, "Mbit/s"), "rtt_ms": (inventory.rtt_ms, "ms")}
    return [
        where.finding(
            fault=f"the inventory's wan.{name} is off by a factor of {factor:.1f}",
            evidence=f"defaults.yaml: {told[name][0]:g} {told[name][1]}; measured: {value:.3g} {told[name][1]}",
            advice=f"In defaults.yaml, cluster.drbd.wan: {name}: {value:.3g}; {AGAIN}",
        )
        for name, value in measured.items()
        if (factor := max(told[name][0] / value, value / told[name][0])) > OFF
    ]
