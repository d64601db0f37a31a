"""Grafana and Loki, both off by default: they are the two that do not fit on a machine of 512 MiB.

Neither is in Debian. Grafana comes from its own repository, whose key is pinned here; Loki is taken as somebody
installed it, and given limits.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from dockyard.change import Change, Plan, Run, WriteFile, filled, install, write_file
from dockyard.errors import StepFailed
from dockyard.files import FileState, read_file
from dockyard.observe import Domain, Observed
from dockyard.remote import Command, Outputs
from dockyard.rendering import TEMPLATES, render
from dockyard.service import ServiceState, mark_of, plan_service, service_probe
from dockyard.topology import Host, Topology
from tasks.monitoring import budget, places
from tasks.monitoring.facts import is_server
from tasks.monitoring.texts import address, server_of, wanted_of

DASHBOARDS = ("cluster", "machines")
LOKI_FOLDER = "/var/lib/loki"
KEY_FINGERPRINT = "B53AE77BADB630A683046005963FA27710458545"
"""Grafana Labs, in use since August 2023 (https://apt.grafana.com)."""

_FETCH_KEY = """\
set -eu; path=$1 wanted=$2
folder=$(mktemp -d); trap 'rm -rf -- "$folder"' EXIT
curl -fsS --max-time 60 -o "$folder/key" https://apt.grafana.com/gpg.key
found=$(GNUPGHOME=$folder gpg --batch --show-keys --with-colons "$folder/key" | awk -F: '/^fpr/ { print $10; exit }')
[ "$found" = "$wanted" ] || { echo "the key there is $found and not $wanted: has Grafana a new one?" >&2; exit 65; }
install -D -m 0644 -- "$folder/key" "$path\""""
_LOOK = """\
[ ! -s "$2" ] || echo password
for file in /etc/apt/sources.list /etc/apt/sources.list.d/*.list /etc/apt/sources.list.d/*.sources; do
  [ "$file" = "$3" ] || grep -q -s -i -E '^Enabled: *(no|false)' "$file" ||
    ! grep -q -s -E '^[^#]*apt[.]grafana[.]com' "$file" || echo source
done
show="gpg --batch --no-options --no-keyring --trust-model always --show-keys --with-colons"
[ -s "$1" ] && $show "$1" 2>/dev/null | awk -F: -v now="$(date +%s)" '
  /^pub/ { there = $7 == "" || $7 > now } END { exit !there }' && echo key; exit 0"""
"""Says ``key`` of one that has not expired: Grafana puts the day off year by year, and apt takes no expired key.

``source`` is one of somebody else: a second one with another Signed-By, and apt reads no list any more.
"""

_MAKE_PASSWORD = """\
umask 077; openssl rand -hex 16 >"$1.new" && chown root:grafana "$1.new" && chmod 0640 "$1.new" &&
sync "$1.new" && mv -f -- "$1.new" "$1\""""
_SOURCE = f"""\
# Written by Dockyard, for Grafana.
Types: deb
URIs: https://apt.grafana.com
Suites: stable
Components: main
Signed-By: {places.GRAFANA_KEY}
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class OptionalState:
    """``key`` and ``password`` say whether there is one, a key that has not expired; ``source`` whether apt knows
    Grafana's repository by another file than ours.
    """

    key: bool = False
    source: bool = False
    password: bool = False
    files: Mapping[str, FileState] = field(default_factory=dict)
    services: Mapping[str, ServiceState] = field(default_factory=dict)


def _concerns(topology: Topology, host: Host) -> bool:
    wanted = wanted_of(topology)
    return is_server(topology, host) and (wanted.grafana or wanted.loki)


def _files() -> list[str]:
    drop_ins = [places.drop_in(name) for name in (places.GRAFANA, places.LOKI)]
    boards = [places.dashboard(name) for name in DASHBOARDS]
    return [*drop_ins, places.GRAFANA_SOURCE, places.DATASOURCE, places.DASHBOARDS, *boards, places.LOKI_CONFIG]


def _probes(_topology: Topology, _host: Host) -> Sequence[Command]:
    return [
        Command(
            "grafana", ("sh", "-c", _LOOK, "look", places.GRAFANA_KEY, places.GRAFANA_PASSWORD, places.GRAFANA_SOURCE)
        ),
        *(read_file(path) for path in _files()),
        *(service_probe(name) for name in (places.GRAFANA, places.LOKI)),
    ]


def _read(_topology: Topology, _host: Host, outputs: Outputs) -> OptionalState:
    there = outputs.text("grafana").split()
    return OptionalState(
        key="key" in there,
        source="source" in there,
        password="password" in there,
        files={path: FileState.of(outputs, path) for path in _files()},
        services={name: ServiceState.of(outputs, name) for name in (places.GRAFANA, places.LOKI)},
    )


OPTIONAL = Domain("grafana and loki", _probes, _read, _concerns)


def plan_grafana(topology: Topology, observed: Observed) -> Plan:
    """Grafana with its data source and dashboards, where the inventory wants it.

    Raises:
        StepFailed: there is one of somebody else.
    """
    server = server_of(topology)
    if server is None or not wanted_of(topology).grafana:
        return {}
    state = observed.of(OPTIONAL, server.name)
    seen = state.services[places.GRAFANA]
    _refuse_foreign(server.name, state)
    text, mark = grafana_unit(topology, server)
    unit = _files_of(state, {places.drop_in(places.GRAFANA): text})
    config = _files_of(state, grafana_texts(topology, server))
    fresh = not seen.unit.loaded
    changes = [
        *(_writes(unit) if fresh else []),
        *_repository(state),
        *([install(["grafana"])] if fresh else []),
        *([] if state.password else [_run("make Grafana's password", _MAKE_PASSWORD, places.GRAFANA_PASSWORD)]),
        *plan_service(seen, config if fresh else [*unit, *config], mark),
    ]
    return filled({server.name: changes})


def _refuse_foreign(host: str, state: OptionalState) -> None:
    """Our drop-in would move it into the mesh, and take its data sources and dashboards out of use."""
    seen = state.services[places.GRAFANA].unit
    if seen.loaded and (seen.is_active or seen.is_enabled) and not state.files[places.drop_in(places.GRAFANA)].exists:
        raise StepFailed(
            f"{host}: a Grafana of somebody else would be taken over ({places.GRAFANA} is {seen.active})",
            advice="Leave `grafana: true` out, and add the data source there: Prometheus answers in the mesh. "
            f"Or, on {host}: systemctl disable --now {places.GRAFANA}, and run again: its own database stays.",
        )


def _repository(state: OptionalState) -> list[Change]:
    """Where the package comes from, and by whose key it is verified; nothing where apt knows it already."""
    if state.source:
        return [] if state.password else [install(["openssl"])]
    key = _run("fetch the key of Grafana's repository", _FETCH_KEY, places.GRAFANA_KEY, KEY_FINGERPRINT)
    source = _writes(_files_of(state, {places.GRAFANA_SOURCE: _SOURCE}))
    return source if state.key else [install(["curl", "gpg", "openssl"]), key, *source]


def plan_loki(topology: Topology, observed: Observed) -> Plan:
    """Limits for the Loki that is there.

    Raises:
        StepFailed: there is none.
    """
    server = server_of(topology)
    if server is None or not wanted_of(topology).loki:
        return {}
    state = observed.of(OPTIONAL, server.name)
    seen = state.services[places.LOKI]
    if not seen.unit.loaded:
        raise StepFailed(
            f"{server.name}: there is no {places.LOKI}, and Debian has no package of Loki",
            advice="Install Grafana's package loki there, or take `loki: true` out of cluster.monitoring "
            "(docs/monitoring.md).",
        )
    texts, mark = loki_texts(topology, server)
    return filled({server.name: plan_service(seen, _files_of(state, texts), mark)})


def grafana_unit(topology: Topology, host: Host) -> tuple[str, str]:
    """Grafana's drop-in, and the mark of all that it reads when it starts."""
    mark = mark_of(_grafana_unit(topology, host, ""), *grafana_texts(topology, host).values())
    return _grafana_unit(topology, host, mark), mark


def _grafana_unit(topology: Topology, host: Host, mark: str) -> str:
    return render(
        "grafana.conf",
        interface=topology.cluster.wireguard.interface,
        address=host.wireguard.address,
        port=places.PORTS[places.GRAFANA],
        name=topology.fqdn(host.name),
        provisioning=places.GRAFANA_FOLDER,
        password=places.GRAFANA_PASSWORD,
        memory=budget.GRAFANA,
        mark=mark,
    )


def grafana_texts(topology: Topology, host: Host) -> dict[str, str]:
    """Data source, provider and dashboards by path."""
    boards = {
        places.dashboard(name): (TEMPLATES / "grafana" / f"{name}.json").read_text(encoding="utf-8")
        for name in DASHBOARDS
    }
    return {
        places.DATASOURCE: render(
            "grafana-datasource.yml",
            prometheus=address(topology, host.name, places.PROMETHEUS),
            interval_s=wanted_of(topology).scrape_interval_s,
        ),
        places.DASHBOARDS: render("grafana-dashboards.yml", folder=f"{places.GRAFANA_FOLDER}/json"),
        **boards,
    }


def loki_texts(topology: Topology, host: Host) -> tuple[dict[str, str], str]:
    """Loki's drop-in and configuration by path, and their mark."""
    address, port = host.wireguard.address, places.PORTS[places.LOKI]
    config = render("loki.yml", address=address, port=port, folder=LOKI_FOLDER)
    mark = mark_of(config, _loki_unit(topology, ""))
    return {places.drop_in(places.LOKI): _loki_unit(topology, mark), places.LOKI_CONFIG: config}, mark


def _loki_unit(topology: Topology, mark: str) -> str:
    return render(
        "loki.conf",
        interface=topology.cluster.wireguard.interface,
        config=places.LOKI_CONFIG,
        folder=PurePosixPath(LOKI_FOLDER).name,
        memory=budget.LOKI,
        mark=mark,
    )


def _files_of(state: OptionalState, texts: Mapping[str, str]) -> list[WriteFile]:
    return [WriteFile(path=path, content=text, seen=state.files[path]) for path, text in texts.items()]


def _writes(files: Sequence[WriteFile]) -> list[Change]:
    return [change for file in files for change in write_file(file)]


def _run(title: str, script: str, *words: str) -> Change:
    return Run(title=title, argv=("sh", "-c", script, "x", *words), timeout_s=120)
