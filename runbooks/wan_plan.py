"""What replication over this line costs, and the numbers for the inventory.

From round trip, rate and what is written: DRBD's settings with their reasons, how far behind a burst leaves the
Secondary, how long the initial sync and the catch-up after an outage take, the most that a disaster costs, and advice.

Needs: an inventory without mistakes. Replicas that can be reached are asked for the round trip between them, the size
of the disk and the mean rate of writing since boot; --measure also sends data through the mesh, in each direction, and
loads the line. What is not seen comes from the options, else from the inventory. Advice is a finding (exit code 1).
May destroy: nothing. --measure starts a receiver that ends by itself within a minute, also when this run is killed.
Way back: none needed.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict

from nornir.core import Nornir

from dockyard.cli import ask_at_terminal, guarded, make_ready, number, parser, read_by
from dockyard.cluster import open_cluster
from dockyard.errors import Refused, UsageError
from dockyard.observe import sweep
from dockyard.report import Report
from dockyard.topology import Topology, Wan
from tasks.drbd import advice, config, forecast, known, line, seed, sizing
from tasks.drbd.quantities import parse_size, size
from tasks.drbd.wan import Load

BYTES = read_by(parse_size)
OPTIONS = ("mbit", "rtt_ms", "share", "size", "write_mbit")


def main() -> int:
    """Read the command line, look and measure, and return the exit code."""
    arguments = _options().parse_args()
    return guarded(arguments, lambda report: _plan(arguments, report))


def _options() -> argparse.ArgumentParser:
    made = parser(__doc__)
    made.add_argument("--measure", action="store_true", help="measure the rate too: loads the line for some seconds")
    made.add_argument("--offline", action="store_true", help="ask no host; use the options and the inventory")
    made.add_argument("--yes", action="store_true", help="do not ask before the line is loaded")
    made.add_argument("--seconds", type=number(2, 60), default=8.0, help="the most a direction is measured (8)")
    made.add_argument("--mib", type=number(1, 4096), default=64.0, help="the most that is sent in a direction (64)")
    made.add_argument("--port", type=number(1024, 65535), default=line.PORT, help="TCP port to measure on (7799)")
    made.add_argument("--mbit", type=number(0.001, 100_000), help="rate of the slower direction, 10^6 bits a second")
    made.add_argument("--rtt-ms", type=number(0.001, 5000), help="round trip in milliseconds")
    made.add_argument("--share", type=number(0.001, 1), help="part of the rate that a resync may take, such as 0.5")
    made.add_argument("--size", type=BYTES, help="of the device, such as 500G or 2T (without a letter: GiB)")
    made.add_argument("--write-mbit", type=number(0, 100_000), help="what is usually written, 10^6 bits a second")
    made.add_argument("--burst", type=BYTES, default=10 * 1024**3, help="size of the burst to look at (10G)")
    made.add_argument("--outage", type=number(0.01, 8760), default=8.0, help="hours of the outage to look at (8)")
    made.add_argument("--seed", action="store_true", help="only print how to carry the first copy there on a disk")
    return made


def _plan(arguments: argparse.Namespace, report: Report) -> int:
    if arguments.measure and arguments.json and not arguments.yes:
        raise UsageError("--json shows nothing to confirm", advice="Give --yes with it: --measure loads the line.")
    if arguments.measure and arguments.offline:
        raise UsageError("--offline asks no host, so it cannot measure", advice="Leave one of the two out.")
    with open_cluster(arguments.inventory) as (nornir, topology):
        if arguments.seed:
            return show_seed(topology, report)
        seen = known.Seen()
        if not arguments.offline:
            make_ready(nornir, topology)
            seen = look(nornir, topology, report)
        if arguments.measure:
            seen.rates.update(measure(nornir, topology, arguments, seen, report))
    return show(topology, arguments, seen, report)


def look(nornir: Nornir, topology: Topology, report: Report) -> known.Seen:
    """Ping in both directions and ask for the disks; a host that cannot be asked is a note, no failure."""
    primary, secondary = (host.name for host in line.replicas(topology))
    with report.progress("looking", [primary, secondary]) as processors:
        chosen = nornir.filter(filter_func=lambda host: host.name in {primary, secondary})
        observed = sweep(chosen.with_processors(processors), [line.LINE])
    for host, error in observed.unseen(line.LINE).items():
        report.note(f"{host} was not asked: {error}")
    states = observed.seen(line.LINE)
    for host, state in states.items():
        if not state.received:
            report.note(f"{host} got no answer from the other replica through the mesh: python runbooks/health.py")
    return known.gather(primary, secondary, states)


def measure(
    nornir: Nornir, topology: Topology, arguments: argparse.Namespace, seen: known.Seen, report: Report
) -> dict[str, float]:
    """The rate of both directions, one after the other, in 10^6 bits a second."""
    bounds = line.Bounds(count_bytes=round(arguments.mib * 1024**2), seconds=arguments.seconds)
    if not arguments.yes:
        _confirm(bounds)
    rtt_ms, rates = max(seen.rtts.values(), default=100.0), {}
    primary, secondary = line.replicas(topology)
    for source, target in ((primary, secondary), (secondary, primary)):
        report.note(f"sending from {source.name} to {target.name}, at most {bounds.seconds:g} s")
        found = line.measure(nornir, source, target, port=int(arguments.port), bounds=bounds, rtt_ms=rtt_ms)
        rates[f"{source.name} -> {target.name}"] = found.mbit
    return rates


def _confirm(bounds: line.Bounds) -> None:
    if not sys.stdin.isatty():
        raise Refused("--measure loads the line, and there is no terminal to ask at", advice="Give --yes with it.")
    limits = f"{size(bounds.count_bytes)} or {bounds.seconds:g} s"
    if ask_at_terminal(f"This fills the line with up to {limits} in each direction. Go on? [y/N]: ") not in {
        "y",
        "yes",
    }:
        raise Refused("not confirmed", advice="Nothing was sent. Without --measure the line is only pinged.")


def show(topology: Topology, arguments: argparse.Namespace, seen: known.Seen, report: Report) -> int:
    """Everything that follows from the numbers; 1 when there is advice."""
    replication = topology.cluster.drbd
    inventory = replication.wan if replication else None
    numbers = known.settle({name: getattr(arguments, name) for name in OPTIONS}, seen, inventory)
    plan = Wan(
        **{name: numbers[name].value for name in ("mbit", "rtt_ms", "share")},
        crash_resync_min=(inventory or known.ASSUMED).crash_resync_min,
    )
    load = Load(
        size_bytes=int(numbers["size"].value) if "size" in numbers else None,
        write_mbit=numbers["write_mbit"].value,
        burst_bytes=arguments.burst,
        outage_s=arguments.outage * 3600,
    )
    primary, secondary = (host.name for host in line.replicas(topology))
    resource = replication.resource if replication else "RESOURCE"
    where = advice.Where(resource=resource, primary=primary, secondary=secondary)
    _show_line(numbers, seen, report)
    _show_settings(plan, report)
    _show_costs(plan, load, secondary, report)
    _show_yaml(plan, report)
    findings = [
        *(advice.compare(inventory, seen.line(), where) if inventory else ()),
        *advice.advise(plan, load, where),
    ]
    report.judged(findings)
    return 1 if findings else 0


SHOWN: dict[str, tuple[str, Callable[[float], str]]] = {
    "mbit": ("rate of the slower direction", "{:.3g} Mbit/s".format),
    "rtt_ms": ("round trip", "{:.3g} ms".format),
    "share": ("share of a resync", "{:.0%}".format),
    "size": ("device", size),
    "write_mbit": ("usually written", "{:.3g} Mbit/s".format),
}


def _show_line(numbers: Mapping[str, known.Known], seen: known.Seen, report: Report) -> None:
    rows = [
        {"number": SHOWN[name][0], "value": SHOWN[name][1](one.value), "from": one.source}
        for name, one in numbers.items()
    ]
    rows += [{"number": way, "value": f"{rtt_ms:.3g} ms", "from": "ping, mean"} for way, rtt_ms in seen.rtts.items()]
    rows += [{"number": way, "value": f"{mbit:.3g} Mbit/s", "from": "transfer"} for way, mbit in seen.rates.items()]
    report.table("the line", rows)
    report.record(
        "known", [{"name": name, "value": f"{one.value}", "from": one.source} for name, one in numbers.items()]
    )


def _show_settings(plan: Wan, report: Report) -> None:
    report.note("")
    report.note("What phase2_drbd.py writes into the resource file for this line:")
    sections = {"net": sizing.net_settings(plan), "disk": sizing.disk_settings(plan)}
    for section, settings in sections.items():
        for one in settings:
            report.note(f"  {section:4} {one.name + ' ' + one.value + ';':24} # {one.reason}")
    rows = [{"section": section} | asdict(one) for section, settings in sections.items() for one in settings]
    report.record("settings", rows)


def _show_costs(plan: Wan, load: Load, secondary: str, report: Report) -> None:
    report.note("")
    for question, answer in forecast.sentences(plan, load, secondary):
        report.note(f"{question}: {answer}")
    rows = [
        {"name": name, "value": "" if value is None else f"{value}"} for name, value in forecast.numbers(plan, load)
    ]
    report.record("costs", rows)


def _show_yaml(plan: Wan, report: Report) -> None:
    minutes = plan.crash_resync_min
    crash = "" if minutes == known.ASSUMED.crash_resync_min else f", crash_resync_min: {minutes:g}"
    text = f"wan: {{mbit: {plan.mbit:.3g}, rtt_ms: {plan.rtt_ms:.3g}, share: {plan.share:g}{crash}}}"
    report.note("")
    report.note(f"For defaults.yaml, under cluster.drbd:  {text}")
    report.record("defaults.yaml", [{"path": "data.cluster.drbd.wan", "text": text}])


def show_seed(topology: Topology, report: Report) -> int:
    """How to carry the first copy by disk, with this inventory's names."""
    primary, secondary = line.replicas(topology)
    replication = topology.cluster.drbd
    if replication is None or primary.drbd is None or secondary.drbd is None:
        raise UsageError(
            "the inventory describes no replication", advice="Add cluster.drbd and drbd.disk at both hosts."
        )
    lines = seed.procedure(
        seed.Seed(
            resource=replication.resource,
            minor=replication.minor,
            mount=replication.mount,
            primary=primary.name,
            secondary=secondary.name,
            disk=primary.drbd.disk,
            target_disk=secondary.drbd.disk,
            primary_id=config.node_id(topology, primary.name),
            secondary_id=config.node_id(topology, secondary.name),
            metadata=primary.drbd.metadata,
            target_metadata=secondary.drbd.metadata,
        )
    )
    for text in lines:
        report.note(text)
    report.record("seed", [{"line": text} for text in lines])
    return 0


if __name__ == "__main__":
    sys.exit(main())
