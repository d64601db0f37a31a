"""DNS, Ollama and the bounds of phase 1, beyond what the table in test_single_faults.py holds."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from lab import Lab
from tests.lab import ollama_standin
from tests.lab.conftest import HOSTS, Ran, Runbooks, replace_in, wait_until_healthy

LOAD = "10.20.0.4"
UNIT = "dockyard-dns.service"
ASK = "busybox nslookup -type=a {name} " + LOAD


@pytest.fixture(scope="session")
def runbooks(everything: Runbooks) -> Runbooks:
    return everything


def test_the_server_answers_for_the_cluster_and_leaves_the_hosts_own_resolver_alone(meshed: Lab) -> None:
    for host in HOSTS:
        assert "10.20.0.2" in meshed[host].succeed(ASK.format(name="opencloud.dock.internal"))
        meshed[host].fail(f"grep -E '{LOAD}|127.0.0.1' /etc/resolv.conf")
    meshed["dock-edge"].fail(ASK.format(name="nowhere.dock.internal"))
    meshed["dock-edge"].fail(ASK.format(name="www.debian.org"))
    listening = meshed["dock-load"].succeed("ss -H -ltnu 'sport = :53' | awk '{print $5}' | sort -u", sudo=True)
    assert listening == f"{LOAD}:53\n"


@pytest.mark.drill
def test_a_new_name_is_heard_after_one_run(meshed: Lab, runbooks: Runbooks, inventory: Path) -> None:
    replace_in(inventory / "defaults.yaml", "ollama: dock-edge", "ollama: dock-edge\n      chat: dock-mirror")
    added = runbooks.succeed("phase1_baseline", "--yes", "--json", "--inventory", str(inventory))
    assert f"systemctl restart -- {UNIT}" in added.changes["dock-load"]
    assert "10.20.0.3" in meshed["dock-edge"].succeed(ASK.format(name="chat.dock.internal"))
    runbooks.succeed("phase1_baseline", "--yes")
    meshed["dock-edge"].fail(ASK.format(name="chat.dock.internal"))


@pytest.mark.drill
def test_the_mesh_may_go_and_come_under_the_server(meshed: Lab, runbooks: Runbooks) -> None:
    load = meshed["dock-load"]
    pid = load.succeed(f"systemctl show -p MainPID {UNIT}")
    load.succeed("systemctl restart wg-quick@wg0", sudo=True)
    wait_until_healthy(runbooks)
    assert load.succeed(f"systemctl show -p MainPID {UNIT}") == pid


@pytest.mark.drill
def test_without_the_dns_host_the_hosts_know_all_names_and_it_comes_back_by_itself(
    meshed: Lab, runbooks: Runbooks
) -> None:
    load = meshed["dock-load"]
    load.crash()
    for host in set(HOSTS) - {"dock-load"}:
        assert "10.20.0.1 " in meshed[host].succeed("getent ahostsv4 grafana.dock.internal")
    load.start()
    wait_until_healthy(runbooks, timeout_s=240)
    assert runbooks.succeed("phase1_baseline", "--yes", "--json").changes == {}


# --- what listens where


@pytest.mark.drill
@pytest.mark.parametrize("address", ["0.0.0.0", "10.99.0.12"])
def test_who_listens_publicly_is_named_and_may_have_a_reason(
    meshed: Lab, runbooks: Runbooks, inventory: Path, address: str
) -> None:
    prod = meshed["dock-prod"]
    stray = f"socat TCP4-LISTEN:8000,bind={address},fork EXEC:/bin/true"  # ends with 143 when it is stopped: a failure
    prod.succeed(f"systemd-run -q --collect --unit=stray {stray}", sudo=True)
    try:
        prod.wait_until_succeeds("ss -H -ltn 'sport = :8000' | grep -q .")
        health = runbooks.run("health", "--json")
        assert health.faults == ["dock-prod: socat listens on a public address"], str(health)
        refused = runbooks.run("phase1_baseline", "--yes")
        assert refused.exit_code == 1
        assert f"tcp {address}:8000" in refused.stdout, str(refused)
        replace_in(
            inventory / "hosts.yaml",
            "drbd-primary, opencloud]",
            "drbd-primary, opencloud]\n    exposed: [{port: 8000, proto: tcp, why: a test of the lab}]",
        )
        assert runbooks.succeed("health", "--json", "--inventory", str(inventory)).faults == []
    finally:
        prod.succeed("systemctl stop stray", sudo=True)


# --- the bounds of phase 1


@pytest.mark.drill
@pytest.mark.parametrize("unit", ["pacemaker", "corosync"])
def test_a_pacemaker_that_would_start_is_refused_before_anything_is_changed(
    meshed: Lab, runbooks: Runbooks, unit: str
) -> None:
    mirror = meshed["dock-mirror"]
    mirror.succeed(f"systemctl -q enable {unit} && sed -i /grafana/d /etc/hosts", sudo=True)
    try:
        refused = runbooks.run("phase1_baseline", "--yes", "--json")
        assert refused.exit_code == 1, str(refused)
        assert refused.faults == ["dock-mirror: Pacemaker is here, and nothing may fail over by itself yet"]
        assert refused.changes == {}
    finally:
        mirror.succeed(f"systemctl -q disable {unit}", sudo=True)
    assert runbooks.succeed("phase1_baseline", "--yes", "--json").changes == {"dock-mirror": ["write /etc/hosts"]}


@pytest.mark.drill
def test_a_resource_of_somebody_else_is_refused(meshed: Lab, runbooks: Runbooks) -> None:
    edge = meshed["dock-edge"]
    edge.succeed("mkdir -p /etc/drbd.d; echo 'resource vm { }' >/etc/drbd.d/vm.res", sudo=True)
    try:
        refused = runbooks.run("phase1_baseline", "--yes")
        assert refused.exit_code == 1
        assert "/etc/drbd.d defines vm" in refused.stdout, str(refused)
    finally:
        edge.succeed("rm /etc/drbd.d/vm.res", sudo=True)


@pytest.mark.drill
def test_phase_1_goes_on_after_phase_2_but_not_where_the_inventory_forgot_it(
    replicated: Lab, runbooks: Runbooks, inventory: Path
) -> None:
    assert runbooks.succeed("phase1_baseline", "--yes", "--json").changes == {}
    defaults = inventory / "defaults.yaml"
    head, _, rest = defaults.read_text().partition("    drbd:\n")
    kept = [line for line in rest.splitlines(keepends=True) if not line.startswith("      ")]
    defaults.write_text(head + "".join(kept))
    refused = runbooks.run("phase1_baseline", "--yes", "--json", "--inventory", str(inventory))
    assert refused.exit_code == 1, str(refused)
    fault = "DRBD is in use, and the inventory does not know of it"
    assert refused.faults == [f"dock-mirror: {fault}", f"dock-prod: {fault}"]
    replicated["dock-prod"].succeed("mountpoint -q /srv/data")


# --- Ollama, by a stand-in


@pytest.fixture
def with_ollama(meshed: Lab, inventory: Path) -> Iterator[Path]:
    """An inventory that wants Ollama in its corner; what a test installs is removed."""
    wanted = "ollama: {allow: [dock-prod], cpus: 0.5, memory_gib: 0.25}"
    replace_in(inventory / "defaults.yaml", "    drbd:\n", f"    {wanted}\n    drbd:\n")
    yield inventory
    for host in ("dock-edge", "dock-mirror"):
        ollama_standin.remove(meshed[host])


def hold(runbooks: Runbooks, inventory: Path) -> Ran:
    return runbooks.run("phase1_baseline", "--yes", "--json", "--from", "Hold Ollama", "--inventory", str(inventory))


@pytest.mark.drill
def test_ollama_is_never_downloaded(meshed: Lab, runbooks: Runbooks, with_ollama: Path) -> None:
    missing = hold(runbooks, with_ollama)
    assert (missing.exit_code, missing.changes) == (1, {}), str(missing)
    assert missing.faults == ["dock-edge: Ollama is not installed"]


@pytest.mark.drill
def test_ollama_is_held_to_its_corner(meshed: Lab, runbooks: Runbooks, with_ollama: Path) -> None:
    edge, where = meshed["dock-edge"], ("--inventory", str(with_ollama))
    ollama_standin.install(edge, host="0.0.0.0:11434")
    edge.wait_until_succeeds("curl -fsS http://127.0.0.1:11434/api/version")
    public = runbooks.run("health", "--json", *where)
    assert public.faults[-1] == "dock-edge: ollama listens on a public address", str(public)

    ran = hold(runbooks, with_ollama)
    assert ran.exit_code == 0, str(ran)
    assert hold(runbooks, with_ollama).changes == {}
    assert runbooks.succeed("health", "--json", *where).faults == []

    ask = "curl -fsS -m 10 http://10.20.0.5:11434/api/version"
    for host in ("dock-edge", "dock-prod"):
        assert ollama_standin.VERSION in meshed[host].succeed(ask)
    for host in ("dock-mirror", "dock-dash"):
        meshed[host].fail(ask)
    meshed["dock-prod"].fail("curl -fsS -m 5 http://10.99.0.15:11434/api/version")

    group = "/sys/fs/cgroup/system.slice/ollama.service"
    assert edge.succeed(f"cat {group}/cpu.max {group}/memory.max {group}/memory.swap.max") == (
        "50000 100000\n268435456\n0\n"
    )
    edge.succeed("systemctl set-property --runtime ollama.service MemoryMax=infinity", sudo=True)
    loose = runbooks.run("health", "--json", *where)
    assert loose.faults == ["dock-edge: Ollama is not held to its limits"], str(loose)

    edge.succeed("systemctl disable --now ollama", sudo=True)
    stopped = runbooks.run("health", "--json", *where)
    assert stopped.faults[0] == "dock-edge: Ollama does not run", str(stopped)
    assert hold(runbooks, with_ollama).changes.keys() == {"dock-edge"}
    assert ollama_standin.VERSION in meshed["dock-prod"].succeed(ask)


@pytest.mark.drill
def test_ollama_on_a_worker_is_a_finding(meshed: Lab, runbooks: Runbooks, with_ollama: Path) -> None:
    ollama_standin.install(meshed["dock-mirror"])
    health = runbooks.run("health", "--json")
    assert health.faults == ["dock-mirror: Ollama is beside K3s, a replica or the arbitrator"], str(health)
    assert runbooks.run("phase1_baseline", "--yes").exit_code == 1
