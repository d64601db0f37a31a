"""Every file that is written for monitoring, as a pure function of the cluster and of the memory of the machine."""

from __future__ import annotations

from collections.abc import Mapping

from dockyard.rendering import render
from dockyard.service import unit_file
from dockyard.topology import Host, Monitoring, Role, Topology
from tasks.monitoring import budget, places

HOURS_WITHOUT_BACKUP = 36.0
"""The limit of the alert where the inventory describes no backups; without any there is no series either."""

Text = tuple[str, int]
"""Content and mode."""


def server_of(topology: Topology) -> Host | None:
    """The host that watches the others; the inventory's rules allow one at most."""
    return next(iter(topology.with_role(Role.MONITORING)), None)


def wanted_of(topology: Topology) -> Monitoring:
    """What the inventory says of monitoring."""
    return topology.cluster.monitoring


def address(topology: Topology, host: str, unit: str) -> str:
    """``10.20.0.1:9090``: where a service of ``host`` listens, in the mesh and nowhere else."""
    return f"{topology.host(host).wireguard.address}:{places.PORTS[unit]}"


def exporter_texts(topology: Topology, host: Host, *, backup_state: str, opencloud: str) -> dict[str, Text]:
    """The files of every host, by path.

    ``backup_state`` is the folder in which backups write down how they went, ``opencloud`` the URL that answers with
    200 while OpenCloud works; ``""`` where there is none.
    """
    interface = topology.cluster.wireguard.interface
    server = server_of(topology)
    assert server, "asked for only where there is one"
    units = {
        places.drop_in(places.EXPORTER): render(
            "node-exporter.conf",
            interface=interface,
            server=server.name,
            address=host.wireguard.address,
            port=places.PORTS[places.EXPORTER],
            textfiles=places.TEXTFILES,
            memory=budget.EXPORTER,
        ),
        unit_file(places.METRICS): render("dockyard-metrics.service", interface=interface, script=places.SCRIPT),
        unit_file(places.TIMER): render("dockyard-metrics.timer"),
    }
    script = _script(topology, host, backup_state, opencloud)
    return {places.SCRIPT: (script, 0o755)} | {path: (text, 0o644) for path, text in units.items()}


def _script(topology: Topology, host: Host, backup_state: str, opencloud: str) -> str:
    drbd = topology.cluster.drbd
    concerned = drbd is not None and (host.drbd is not None or host.name == topology.cluster.arbitrator)
    return render(
        "metrics",
        timer=places.TIMER,
        interface=topology.cluster.wireguard.interface,
        peers={peer.name: str(peer.wireguard.address) for peer in topology.peers_of(host.name)},
        resource=drbd.resource if drbd and concerned else "",
        tie_breakers=[peer.name for peer in topology.peers_of(host.name) if not (host.drbd and peer.drbd)],
        other=next((peer.name for peer in topology.peers_of(host.name) if peer.drbd), ""),
        backup=backup_state if topology.cluster.backup and host.drbd else "",
        k3s=Role.K3S_SERVER in host.roles,
        opencloud=opencloud if host == server_of(topology) else "",
        textfiles=places.TEXTFILES,
    )


def server_units(topology: Topology, host: Host, machine_mib: int) -> dict[str, Text]:
    """The drop-ins of Prometheus and Alertmanager, by path; ``machine_mib`` is the memory of the machine."""
    common = {
        "interface": topology.cluster.wireguard.interface,
        "address": host.wireguard.address,
        "name": topology.fqdn(host.name),
    }
    prometheus = _prometheus_unit(wanted_of(topology), machine_mib, common)
    alertmanager = render(
        "alertmanager.conf",
        **common,
        config=places.ALERTMANAGER_CONFIG,
        port=places.PORTS[places.ALERTMANAGER],
        silences=places.SILENCES,
        memory=budget.ALERTMANAGER,
    )
    return {
        places.drop_in(places.PROMETHEUS): (prometheus, 0o644),
        places.drop_in(places.ALERTMANAGER): (alertmanager, 0o644),
    }


def _prometheus_unit(wanted: Monitoring, machine_mib: int, common: Mapping[str, object]) -> str:
    memory = budget.prometheus(wanted, machine_mib)
    return render(
        "prometheus.conf",
        **common,
        config=places.CONFIG,
        port=places.PORTS[places.PROMETHEUS],
        database=places.DATABASE,
        retention_mib=int(wanted.retention_gib * 1024),
        max_samples=max_samples(memory),
        memory=memory,
    )


def max_samples(memory: budget.Memory) -> int:
    """How many samples one query may load: a quarter of the memory at 16 bytes each (a point of a series in promql)."""
    return memory.most * 2**20 // 4 // 16


def server_config(topology: Topology, host: Host, machine_mib: int) -> dict[str, Text]:
    """Rules and configurations by path; the rules come first, as Prometheus' configuration names them."""
    texts: Mapping[str, str] = {
        places.RULES: rules(topology, machine_mib),
        places.CONFIG: _prometheus(topology, host),
        places.ALERTMANAGER_CONFIG: _alertmanager(wanted_of(topology)),
    }
    return {path: (text, 0o644) for path, text in texts.items()}


def rules(topology: Topology, machine_mib: int) -> str:
    """The alerts."""
    backup = topology.cluster.backup
    memory = budget.prometheus(wanted_of(topology), machine_mib)
    limit_h = backup.max_age_h if backup else HOURS_WITHOUT_BACKUP
    return render(
        "rules.yml",
        timer=places.TIMER,
        metrics=places.METRICS,
        script=places.SCRIPT,
        backup_limit_s=int(limit_h * 3600),
        backup_window=f"{int(limit_h) + 24}h",
        memory_mib=memory.most,
        memory_limit_bytes=int(memory.most * 2**20 * 0.9),
    )


def _prometheus(topology: Topology, host: Host) -> str:
    wanted = wanted_of(topology)
    return render(
        "prometheus.yml",
        interval_s=wanted.scrape_interval_s,
        timeout_s=min(10, wanted.scrape_interval_s - 1),
        cluster=topology.cluster.name,
        rules=places.RULES,
        server=host.name,
        prometheus=address(topology, host.name, places.PROMETHEUS),
        alertmanager=address(topology, host.name, places.ALERTMANAGER),
        grafana=address(topology, host.name, places.GRAFANA) if wanted.grafana else "",
        hosts=[
            {"name": one.name, "site": one.site, "address": address(topology, one.name, places.EXPORTER)}
            for one in topology.hosts.values()
        ],
    )


def _alertmanager(wanted: Monitoring) -> str:
    return render(
        "alertmanager.yml",
        receiver="owner" if wanted.webhook or wanted.email else "nobody",
        webhook=places.WEBHOOK_URL if wanted.webhook else "",
        watchdog=places.WATCHDOG_URL if wanted.watchdog else "",
        email=wanted.email,
        smtp_password=places.SMTP_PASSWORD,
    )


def secrets_of(wanted: Monitoring) -> list[str]:
    """The files that the owner has to put on the monitoring host."""
    found = [places.WEBHOOK_URL] if wanted.webhook else []
    found += [places.WATCHDOG_URL] if wanted.watchdog else []
    return found + ([places.SMTP_PASSWORD] if wanted.email and wanted.email.user else [])
