"""How much of a small machine each part may take: limits that the kernel keeps, and what Go is told to stay below.

A cgroup's MemoryMax also counts the page cache of its files, which the kernel takes back before it kills anybody
(Documentation/admin-guide/cgroup-v2.rst, memory.max). GOMEMLIMIT is a soft limit of the Go runtime: it collects more
often when it comes near (go.dev/doc/gc-guide); a fifth is left for what is not its heap.
"""

from __future__ import annotations

from dataclasses import dataclass

from dockyard.topology import Monitoring

PROMETHEUS_SHARE = 0.35
PROMETHEUS_LEAST_MIB = 160
PROMETHEUS_MOST_MIB = 1024
GO_SHARE = 0.8
STEP_MIB = 32
"""A kernel's update, or a balloon, changes what a machine says of its memory by a few MiB; its share stays."""

MOST_SHARE = 0.75
"""All limits together; the rest is for the kernel, sshd and the journal."""


@dataclass(frozen=True, slots=True)
class Memory:
    """What one service may take, in MiB."""

    most: int

    @property
    def go_limit(self) -> int:
        """GOMEMLIMIT."""
        return int(self.most * GO_SHARE)


EXPORTER = Memory(64)
ALERTMANAGER = Memory(64)
GRAFANA = Memory(512)
"""Grafana 13 idles at 330 MiB, and was killed at 400 (github.com/grafana/grafana/issues/123017)."""
LOKI = Memory(192)


def prometheus(wanted: Monitoring, machine_mib: int) -> Memory:
    """Prometheus' part of a machine with ``machine_mib`` of memory, unless the inventory says a number."""
    share = int(machine_mib // STEP_MIB * STEP_MIB * PROMETHEUS_SHARE)
    return Memory(wanted.memory_mib or max(PROMETHEUS_LEAST_MIB, min(share, PROMETHEUS_MOST_MIB)))


def needed_mib(wanted: Monitoring, machine_mib: int) -> int:
    """All limits of the monitoring host together."""
    parts = [prometheus(wanted, machine_mib), ALERTMANAGER, EXPORTER]
    parts += [GRAFANA] if wanted.grafana else []
    parts += [LOKI] if wanted.loki else []
    return sum(part.most for part in parts)
