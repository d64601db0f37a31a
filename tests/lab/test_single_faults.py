"""One fault at a time, all in one table: health names its cause first, phase 1 mends what configuration can mend."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from lab import Lab
from tests.lab.conftest import Runbooks, wait_until_healthy

pytestmark = pytest.mark.drill

DASH, PROD, MIRROR, LOAD, EDGE = "dock-dash", "dock-prod", "dock-mirror", "dock-load", "dock-edge"


@pytest.fixture(scope="session")
def runbooks(everything: Runbooks) -> Runbooks:
    return everything


@dataclass(frozen=True, slots=True)
class Fault:
    """``do`` is done on ``host``; then ``said`` is the first finding, and the step ``mend`` of phase 1 brings all back.

    What no run of ours may undo is undone by ``undo`` before, on the same host; until then a run from the step
    ``refused`` on stops and says the same.
    """

    host: str
    do: str
    said: str
    mend: str = ""
    undo: str = "true"
    refused: str = ""


def drop(rule: str) -> str:
    """Let a host not hear what fits ``rule``; `HEAR` ends it."""
    chain = "add table inet deaf; add chain inet deaf in { type filter hook input priority -5; }"
    return f"nft '{chain}; add rule inet deaf in {rule} drop'"


HEAR = "nft delete table inet deaf"
PEER_MIRROR = "$(wg show wg0 allowed-ips | awk '/10.20.0.3/ { print $1 }')"
IN_LINE, INTERFACES, NAMES = "Bring the interfaces in line", "Write the interface files", "Write the names into"

MESH = {
    "a peer is gone": Fault(LOAD, f"wg set wg0 peer {PEER_MIRROR} remove", f"{LOAD}: wg0 is not as planned", IN_LINE),
    "the interface is stopped": Fault(EDGE, "systemctl stop wg-quick@wg0", f"{EDGE}: wg0 is not up", IN_LINE),
    "the interface does not start at boot": Fault(
        EDGE, "systemctl disable wg-quick@wg0", f"{EDGE}: wg0 will not come back after a reboot", IN_LINE
    ),
    "the address is gone": Fault(
        EDGE, "ip address flush dev wg0", f"{EDGE}: wg0 does not have its address 10.20.0.5/24", IN_LINE
    ),
    "another MTU": Fault(EDGE, "ip link set wg0 mtu 1200", f"{EDGE}: the MTU of wg0 is wrong", IN_LINE),
    "the file was edited": Fault(
        EDGE,
        "sed -i s/51820/51821/ /etc/wireguard/wg0.conf",
        f"{EDGE}: /etc/wireguard/wg0.conf was changed",
        INTERFACES,
    ),
    "a key that all may read": Fault(
        EDGE,
        "chmod 644 /etc/wireguard/wg0.key",
        f"{EDGE}: others than root may read the private key",
        "private key",
    ),
    "another address of a name": Fault(
        MIRROR,
        "sed -i 's/^10.20.0.1 .*/10.20.0.99 dock-dash/' /etc/hosts",
        f"{MIRROR}: names do not resolve as planned (/etc/hosts)",
        NAMES,
    ),
    "its packets are dropped": Fault(
        EDGE,
        drop("iifname != lo udp dport 51820"),
        f"{EDGE}: nobody gets through to this host, nor it to anybody",
        undo=HEAR,
    ),
}

UNIT, CONFIG = "dockyard-dns.service", "/etc/dockyard-dns.conf"
UNIT_FILE = f"/etc/systemd/system/{UNIT}"
OLD_PROCESS = f"""\
cp -p {UNIT_FILE} /run/unit && sed -i s/DOCKYARD_FILES=.*/DOCKYARD_FILES=0/ {UNIT_FILE}
systemctl daemon-reload && systemctl restart {UNIT} && mv /run/unit {UNIT_FILE} && systemctl daemon-reload"""
SQUATTER = f"""\
systemctl stop {UNIT} && systemd-run -q --collect --unit=squatter socat UDP4-RECVFROM:53,fork EXEC:/bin/true &&
until ss -H -lun 'sport = :53' | grep -q .; do sleep 0.2; done"""
INSTALL, SERVER = "Install the DNS server", "Answer for the names by DNS"

DNS = {
    "DNS is stopped": Fault(LOAD, f"systemctl stop {UNIT}", f"{LOAD}: the DNS server does not run", SERVER),
    "DNS does not start at boot": Fault(
        LOAD, f"systemctl disable {UNIT}", f"{LOAD}: the DNS server does not start at boot", SERVER
    ),
    "DNS answers something else": Fault(
        LOAD,
        f"sed -i s/10.20.0.1$/10.20.0.99/ {CONFIG} && systemctl restart {UNIT}",
        f"{LOAD}: the DNS server is not set up as planned",
        SERVER,
    ),
    "the unit of DNS is gone": Fault(
        LOAD, f"rm {UNIT_FILE}", f"{LOAD}: the DNS server is not set up as planned", SERVER
    ),
    "DNS runs with older files": Fault(
        LOAD, OLD_PROCESS, f"{LOAD}: the DNS server runs with older files than those that are there", SERVER
    ),
    "port 53 is taken": Fault(
        LOAD,
        SQUATTER,
        f"{LOAD}: port 53 is taken by somebody else",
        SERVER,
        undo="systemctl stop squatter",
        refused=INSTALL,
    ),
    "DNS is deaf to one host": Fault(
        LOAD,
        drop("ip saddr 10.20.0.2 udp dport 53"),
        f"{PROD}: the DNS server does not answer",
        refused=INSTALL,
        undo=HEAR,
    ),
}

KUBECTL = "k3s kubectl"
LABEL = "dockyard.node-restriction.kubernetes.io/storage"
SCALE = (
    f"{KUBECTL} get deployment opencloud --namespace opencloud -o json | "
    f"""sed 's/"replicas": 1/"replicas": 0/' | {KUBECTL} apply -f -"""
)
WORKERS, MARKS, TOKEN = "Start the workers", "Mark who carries the volumes", "Bring the token to the workers"

K3S = {
    "an agent is stopped": Fault(MIRROR, "systemctl stop k3s-agent", f"{MIRROR}: K3s does not run", WORKERS),
    "an agent does not start at boot": Fault(
        MIRROR, "systemctl disable k3s-agent", f"{MIRROR}: K3s does not run", WORKERS
    ),
    "mirror lost its taint": Fault(
        LOAD,
        f"{KUBECTL} taint node {MIRROR} dockyard.io/standby-",
        f"{MIRROR}: takes pods, and must take none: it does not carry the volumes",
        MARKS,
    ),
    "the label of the volumes is gone": Fault(
        LOAD,
        f"{KUBECTL} label node {PROD} {LABEL}-",
        f"{PROD}: does not have the label of the volumes: their pods cannot start",
        undo=f"{KUBECTL} label node {PROD} {LABEL}=here",
    ),
    "a token that all may read": Fault(
        MIRROR,
        "chmod 644 /etc/rancher/k3s/token",
        f"{MIRROR}: others than root may read /etc/rancher/k3s/token",
        TOKEN,
    ),
    "another token": Fault(
        MIRROR,
        "echo K10x::server:y >/etc/rancher/k3s/token",
        f"{MIRROR}: has another token than the control plane",
        TOKEN,
    ),
    "the table of K3s is gone": Fault(
        PROD,
        "nft delete table inet dockyard_k3s",
        f"{PROD}: nothing keeps others from K3s' port 8472: its table is not loaded",
        WORKERS,
    ),
    "flannel's device is gone": Fault(  # the stand-in has none; this is what K3s leaves of one
        MIRROR,
        "install -D /dev/null /run/flannel/subnet.env",
        f"{MIRROR}: its pods reach no pod of another node",
        WORKERS,
    ),
    "K3s' options were edited": Fault(
        PROD,
        "echo 'node-label: [a=b]' >>/etc/rancher/k3s/config.yaml",
        f"{PROD}: what K3s starts with is not as planned",
        "Write K3s' options",
    ),
    "OpenCloud was scaled by hand": Fault(
        LOAD, SCALE, f"{LOAD}: opencloud is not as planned in the cluster", "Apply OpenCloud"
    ),
    "the control plane is stopped": Fault(
        LOAD, "systemctl stop k3s", f"{LOAD}: K3s does not run", "Start the control plane"
    ),
}

EXPORTERS, WATCH = "Run node_exporter", "Run Prometheus and Alertmanager"
DROP_IN = "/etc/systemd/system/prometheus-node-exporter.service.d/zz-dockyard.conf"
OTHER_PORT = f"sed -i s/:9100/:9101/ {DROP_IN}; systemctl daemon-reload; systemctl restart prometheus-node-exporter"

MONITORING = {
    "Prometheus is stopped": Fault(
        DASH, "systemctl stop prometheus", f"{DASH}: prometheus.service does not run", WATCH
    ),
    "Alertmanager is stopped": Fault(
        DASH,
        "systemctl stop prometheus-alertmanager",
        f"{DASH}: prometheus-alertmanager.service does not run",
        WATCH,
    ),
    "Prometheus' options were edited": Fault(
        DASH,
        "sed -i s/30s/31s/ /etc/dockyard/monitoring/prometheus.yml",
        f"{DASH}: what sets the monitoring up is not as planned",
        WATCH,
    ),
    "an exporter is stopped": Fault(
        PROD,
        "systemctl disable --now prometheus-node-exporter",
        f"{DASH}: the exporter of {PROD} does not answer",
        EXPORTERS,
    ),
    "an exporter on another port": Fault(
        EDGE, OTHER_PORT, f"{DASH}: the exporter of {EDGE} does not answer", EXPORTERS
    ),
    "an exporter is blocked": Fault(
        EDGE,
        drop("tcp dport 9100"),
        f"{DASH}: the exporter of {EDGE} does not answer",
        undo=HEAR,
    ),
}

BOUNDS = {
    "somebody listens publicly": Fault(
        PROD,
        "systemd-run -q --collect --unit=stray socat TCP4-LISTEN:8000,fork EXEC:/bin/true; "
        "until ss -H -ltn 'sport = :8000' | grep -q .; do sleep 0.2; done",
        f"{PROD}: socat listens on a public address",
        undo="systemctl stop stray",
    ),
}

FAULTS = {**MESH, **DNS, **K3S, **MONITORING, **BOUNDS}


@pytest.mark.parametrize("name", FAULTS)
def test_a_single_fault_is_named_first_and_mended(meshed: Lab, runbooks: Runbooks, name: str) -> None:
    fault = FAULTS[name]
    meshed[fault.host].succeed(fault.do, sudo=True)
    try:
        health = runbooks.run("health", "--json")
        assert health.faults[:1] == [fault.said], str(health)
        if fault.refused:
            refused = runbooks.run("phase1_baseline", "--yes", "--from", fault.refused)
            assert refused.exit_code == 1, str(refused)
            assert fault.said.partition(": ")[2] in refused.stdout, str(refused)
    finally:
        meshed[fault.host].succeed(fault.undo, sudo=True)
    if fault.mend:
        assert runbooks.succeed("phase1_baseline", "--yes", "--json", "--only", fault.mend).changes
    wait_until_healthy(runbooks, timeout_s=400)


def test_after_all_of_them_nothing_is_left_to_do(meshed: Lab, runbooks: Runbooks) -> None:
    assert runbooks.succeed("phase1_baseline", "--yes", "--json").changes == {}
