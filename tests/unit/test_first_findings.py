"""The lab's table of single faults as data: health names the cause of each first, and the step to mend it is there."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import pytest

from dockyard.cli import select
from dockyard.files import FileState
from dockyard.observe import Domain, Observed
from runbooks import health
from runbooks.phase1_baseline import STEPS
from tasks import bounds, dns, hosts_file, k3s, machine, monitoring, opencloud
from tasks.dns import answers
from tasks.dns.server import CONFIG, UNIT_FILE
from tasks.k3s.facts import TokenSeen
from tasks.k3s.nodes import Condition, Truth
from tasks.machine.sockets import read_sockets
from tasks.wireguard import REACH, WIREGUARD
from tests.lab.test_single_faults import FAULTS
from tests.unit import kube, meshes, monitored, nameserver

LAB = kube.topology()
DASH, PROD, MIRROR, LOAD, EDGE = meshes.HOSTS
SEEN = machine.MachineState(
    clock=machine.Offset(least=0, most=0), kernel="6.12", uptime_s=1.0, file_systems=(), missing=()
)
DNSMASQ = 'udp UNCONN 0 0 10.20.0.4:53 0.0.0.0:* users:(("dnsmasq",pid=7,fd=4))\n'
SOCAT = 'udp UNCONN 0 0 0.0.0.0:53 0.0.0.0:* users:(("socat",pid=8,fd=5))\n'
STRAY = 'tcp LISTEN 0 5 0.0.0.0:8000 0.0.0.0:* users:(("socat",pid=9,fd=5))\n'
DEAF = answers.Answers(replies={})
ABSENT = bounds.Part(active="inactive", enabled="")
PLAIN = bounds.Bounds(
    parts=dict.fromkeys((*bounds.AUTOMATIC, *bounds.GUESTS, *bounds.NODES), ABSENT), devices=(), resources=()
)


def after_phase_1() -> Observed:
    """Everything that health sees of the lab, all of it as planned."""
    reach = {host: meshes.reached(host) for host in LAB.hosts}
    seen = meshes.observed(meshes.healthy(LAB), reach).merged(kube.observed(LAB))
    everywhere = {
        machine.MACHINE.name: SEEN,
        hosts_file.NAMES.name: hosts_file.NamesState(
            file=_file("/etc/hosts", hosts_file.block(LAB)),
            addresses={name: (at,) for name, at in hosts_file.names(LAB).items()},
        ),
        bounds.BOUNDS.name: PLAIN,
        machine.LISTENING.name: read_sockets(""),
        dns.ANSWERS.name: nameserver.heard(LAB),
    }
    own: dict[str, dict[str, object]] = {
        DASH: {
            monitoring.MONITORING.name: monitored.healthy(LAB)[DASH],
            monitoring.PROMETHEUS.name: monitored.answering(LAB),
        },
        PROD: {opencloud.OPENCLOUD.name: opencloud.Answer(status=200)},
        LOAD: {dns.DNS.name: nameserver.serving(LAB), machine.LISTENING.name: read_sockets(DNSMASQ)},
    }
    return seen.merged(Observed({host: everywhere | own.get(host, {}) for host in LAB.hosts}))


def _file(path: str, text: str) -> FileState:
    return FileState(path=path, kind="regular file", mode=0o644, owner="root", group="root", content=text)


HEALTHY = after_phase_1()
Fault = Callable[[Observed], Observed]


def put(domain: Domain[Any], host: str, state: object) -> Fault:
    return lambda seen: seen.merged(Observed({host: {domain.name: state}}))


def with_parts(domain: Domain[Any], host: str, **parts: object) -> Fault:
    return lambda seen: put(domain, host, replace(seen.of(domain, host), **parts))(seen)


def all_of(*faults: Fault) -> Fault:
    def done(seen: Observed) -> Observed:
        for fault in faults:
            seen = fault(seen)
        return seen

    return done


def silence(source: str, *targets: str) -> Fault:
    return lambda seen: put(REACH, source, meshes.silent(seen.of(REACH, source), *targets))(seen)


def cut_off(host: str) -> Fault:
    """Nothing comes to a host or from it, DNS and metrics among it."""
    others = [name for name in LAB.hosts if name != host]
    ways = (silence(host, *others), *(silence(other, host) for other in others))
    return all_of(*ways, put(dns.ANSWERS, host, DEAF), without_exporter(host))


def without_exporter(host: str) -> Fault:
    reached = monitored.answering(LAB).reached - {f"{LAB.host(host).wireguard.address}:9100"}
    return with_parts(monitoring.PROMETHEUS, DASH, reached=reached)


def lost(host: str) -> Fault:
    """K3s hears nothing of a node any more."""
    ready = Condition(status=Truth.UNKNOWN, reason="NodeStatusUnknown", message="Kubelet stopped posting node status.")
    return node(host, ready=Truth.UNKNOWN, conditions={"Ready": ready})


def node(host: str, **parts: object) -> Fault:
    return put(k3s.NODES, LOAD, kube.api(LAB, **{host.replace("-", "_"): parts}))


def server(**parts: Any) -> Fault:
    return put(dns.DNS, LOAD, nameserver.serving(LAB, **parts))


def stopped(name: str) -> Fault:
    units = monitored.healthy(LAB)[DASH].units
    return with_parts(monitoring.MONITORING, DASH, units={**units, name: monitored.unit(name, active="inactive")})


EDGES = meshes.healthy(LAB)[EDGE]
LOADS = meshes.healthy(LAB)[LOAD].interface
CONF = EDGES.files["/etc/wireguard/wg0.conf"]
DNS_FILES = HEALTHY.of(dns.DNS, LOAD).files
NAMES = HEALTHY.of(hosts_file.NAMES, MIRROR)
K3S_FILES, CONFIG_FILE = kube.planned(LAB, PROD).files, "/etc/rancher/k3s/config.yaml"
TOKEN = TokenSeen(fingerprint="f" * 16, private=True)
OBJECTS = HEALTHY.of(k3s.OBJECTS, LOAD)
DEPLOYMENT = ("Deployment", "opencloud", "opencloud")
assert LOADS
assert EDGES.key


def scaled() -> Mapping[tuple[str, str, str], Mapping[str, Any]]:
    there = OBJECTS.live[DEPLOYMENT]
    left = {key: one for key, one in OBJECTS.live.items() if key[0] != "Pod"}
    return {**left, DEPLOYMENT: {**there, "spec": {**there["spec"], "replicas": 0}}}


DONE: dict[str, Fault] = {
    "a peer is gone": all_of(
        with_parts(
            WIREGUARD,
            LOAD,
            interface=replace(
                LOADS, peers={key: one for key, one in LOADS.peers.items() if key != meshes.key_of(MIRROR)}
            ),
        ),
        silence(LOAD, MIRROR),
        silence(MIRROR, LOAD),
        put(dns.ANSWERS, MIRROR, DEAF),
        lost(MIRROR),
    ),
    "the interface is stopped": all_of(
        with_parts(WIREGUARD, EDGE, interface=None, link=None, service=replace(EDGES.service, active="inactive")),
        cut_off(EDGE),
    ),
    "the interface does not start at boot": with_parts(
        WIREGUARD, EDGE, service=replace(EDGES.service, enabled="disabled")
    ),
    "the address is gone": all_of(put(WIREGUARD, EDGE, meshes.relink(EDGES, addresses=(), routes=())), cut_off(EDGE)),
    "another MTU": all_of(
        put(WIREGUARD, EDGE, meshes.relink(EDGES, mtu=1200)),
        with_parts(REACH, EDGE, full=dict.fromkeys((DASH, PROD, MIRROR, LOAD), meshes.SILENCE)),
    ),
    "the file was edited": with_parts(
        WIREGUARD, EDGE, files={**EDGES.files, CONF.path: replace(CONF, content=CONF.content.replace("51820", "51821"))}
    ),
    "a key that all may read": with_parts(WIREGUARD, EDGE, key=replace(EDGES.key, mode=0o644)),
    "another address of a name": with_parts(
        hosts_file.NAMES,
        MIRROR,
        file=replace(
            NAMES.file,
            content=re.sub(r"^10\.20\.0\.1 .*", "10.20.0.99 dock-dash", NAMES.file.content, flags=re.MULTILINE),
        ),
        addresses={**NAMES.addresses, "dock-dash": ("10.20.0.99",), "grafana": ()},
    ),
    "its packets are dropped": cut_off(EDGE),
    "DNS is stopped": all_of(server(active="inactive"), put(machine.LISTENING, LOAD, read_sockets(""))),
    "DNS does not start at boot": server(enabled="disabled"),
    "DNS answers something else": server(files={**DNS_FILES, CONFIG: _file(CONFIG, "")}),
    "the unit of DNS is gone": server(files={**DNS_FILES, UNIT_FILE: FileState(path=UNIT_FILE)}),
    "DNS runs with older files": server(mark="0"),
    "port 53 is taken": all_of(server(active="inactive"), put(machine.LISTENING, LOAD, read_sockets(SOCAT))),
    "DNS is deaf to one host": put(dns.ANSWERS, PROD, DEAF),
    "an agent is stopped": all_of(
        with_parts(k3s.K3S, MIRROR, unit=kube.unit("k3s-agent.service", "inactive")), lost(MIRROR)
    ),
    "an agent does not start at boot": with_parts(
        k3s.K3S, MIRROR, unit=kube.unit("k3s-agent.service", enabled="disabled")
    ),
    "mirror lost its taint": node(MIRROR, taints=()),
    "the label of the volumes is gone": node(PROD, labels={}),
    "a token that all may read": with_parts(
        k3s.K3S, MIRROR, token=replace(kube.planned(LAB, MIRROR).token or TOKEN, private=False)
    ),
    "another token": all_of(with_parts(k3s.K3S, MIRROR, token=TOKEN), lost(MIRROR)),
    "the table of K3s is gone": with_parts(k3s.K3S, PROD, guarded=False),
    "flannel's device is gone": with_parts(k3s.K3S, MIRROR, severed=True),
    "K3s' options were edited": with_parts(k3s.K3S, PROD, files={**K3S_FILES, CONFIG_FILE: _file(CONFIG_FILE, "")}),
    "OpenCloud was scaled by hand": all_of(
        with_parts(k3s.OBJECTS, LOAD, live=scaled()), put(opencloud.OPENCLOUD, PROD, opencloud.Answer(status=0))
    ),
    "the control plane is stopped": all_of(
        with_parts(k3s.K3S, LOAD, unit=kube.unit("k3s.service", "inactive")),
        put(k3s.NODES, LOAD, k3s.Api(answers=False, said="refused")),
        put(k3s.OBJECTS, LOAD, k3s.Objects(answers=False, said="refused")),
    ),
    "Prometheus is stopped": all_of(
        stopped("prometheus.service"), with_parts(monitoring.PROMETHEUS, DASH, answers=False, targets=(), rules={})
    ),
    "Alertmanager is stopped": stopped("prometheus-alertmanager.service"),
    "Prometheus' options were edited": with_parts(monitoring.MONITORING, DASH, digests={}),
    "an exporter is stopped": without_exporter(PROD),
    "an exporter on another port": without_exporter(EDGE),
    "an exporter is blocked": without_exporter(EDGE),
    "somebody listens publicly": put(machine.LISTENING, PROD, read_sockets(STRAY)),
}


def faults(seen: Observed) -> list[str]:
    return [f"{one.host}: {one.fault}" for one in health.all_findings(LAB, seen)]


def test_a_cluster_after_phase_1_has_no_fault() -> None:
    assert faults(HEALTHY) == []


@pytest.mark.parametrize("name", FAULTS)
def test_the_cause_of_a_single_fault_comes_first(name: str) -> None:
    assert faults(DONE[name](HEALTHY))[:1] == [FAULTS[name].said]


@pytest.mark.parametrize("name", FAULTS)
def test_the_steps_that_the_table_names_are_there(name: str) -> None:
    for part in filter(None, (FAULTS[name].mend, FAULTS[name].refused)):
        assert len(select(STEPS, [part], None)) == 1
