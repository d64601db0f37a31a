from __future__ import annotations

import copy
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML

from dockyard.errors import InventoryError, UsageError
from dockyard.topology import (
    Architecture,
    Endpoint,
    Laptop,
    Role,
    Sudo,
    Topology,
    Transport,
    folder_of,
    load_inventory,
    read_topology,
)

ROOT = Path(__file__).parents[2]
DATA = ROOT / "tests" / "data" / "inventory"
EXAMPLE = ROOT / "inventory"
KINDS = ("hosts", "groups", "defaults")
Tree = dict[str, Any]


def tree_of(folder: Path) -> Tree:
    yaml = YAML(typ="safe")
    return {kind: yaml.load((folder / f"{kind}.yaml").read_text(encoding="utf-8")) for kind in KINDS}


VALID = tree_of(DATA / "valid")
CASES = YAML(typ="safe").load((DATA / "mistakes.yaml").read_text(encoding="utf-8"))


def topology_of(folder: Path) -> Topology:
    return read_topology(load_inventory(folder))


def written(tree: Tree, folder: Path) -> Path:
    for kind, content in tree.items():  # JSON is YAML
        (folder / f"{kind}.yaml").write_text(json.dumps(content), encoding="utf-8")
    return folder


def changed(changes: Tree, folder: Path) -> Tree:
    tree = copy.deepcopy(VALID)
    for path, value in changes.items():
        *way, last = path.split("/")
        place = tree
        for key in way:
            place = place[key]
        if value == "(removed)":
            del place[last]
        else:
            place[last] = json.loads(json.dumps(value).replace("{tmp}", str(folder)))
    return tree


def problems_of(folder: Path) -> list[str]:
    try:
        topology_of(folder)
    except InventoryError as error:
        return [str(problem) for problem in error.problems]
    return []


@pytest.mark.parametrize("case", CASES, ids=[case["case"] for case in CASES])
def test_every_mistake_is_reported_with_its_path(case: Tree, tmp_path: Path) -> None:
    for name, mode in (("open", 0o644), ("closed", 0o600)):
        (tmp_path / name).write_text("secret\n", encoding="utf-8")
        (tmp_path / name).chmod(mode)
    (tmp_path / "closed.sha256").write_text("secret  closed\n", encoding="utf-8")
    (tmp_path / "hosts.yaml.sha256").mkdir()
    written(changed(case["change"], tmp_path), tmp_path)
    assert problems_of(tmp_path) == [text.replace("{tmp}", str(tmp_path)) for text in case["problems"]]


@pytest.mark.parametrize(
    ("kind", "text", "problem"),
    [
        ("hosts", "a: 1\nb: [1\nc: 2\n", r"hosts\.yaml:3: .*expected ',' or '\]'"),
        ("hosts", "a: {}\na: {}\n", r'hosts\.yaml:2: found duplicate key "a"'),
        ("groups", "\n# sites\n- home\n", r"groups\.yaml:3: expected a mapping"),
        ("defaults", "just text\n", r"defaults\.yaml:1: expected a mapping"),
        ("defaults", "a: !!python/object:os.system x\n", r"defaults\.yaml:1: could not determine a constructor"),
        ("defaults", "a: \0\n", r"defaults\.yaml: is not YAML"),
        ("defaults", "[" * 600, r"defaults\.yaml: is not YAML"),
        ("hosts", "7: {}\n", r"hosts\.7: a name must be text"),
        ("hosts", "a: &a {data: *a, hostname: h}\n", r"hosts\.a\.(data|hostname): unknown key"),
    ],
)
def test_a_broken_file_is_named_with_its_line(kind: str, text: str, problem: str, tmp_path: Path) -> None:
    written(VALID, tmp_path)
    (tmp_path / f"{kind}.yaml").write_text(text, encoding="utf-8")
    assert re.search(problem, "\n".join(problems_of(tmp_path)))


def test_missing_and_undecodable_files_are_all_named(tmp_path: Path) -> None:
    (tmp_path / "hosts.yaml").write_bytes(b"a: \xff\n")
    assert problems_of(tmp_path) == [
        f"{tmp_path}/hosts.yaml: is not UTF-8: invalid start byte at byte 3",
        f"{tmp_path}/groups.yaml: cannot be read: No such file or directory",
        f"{tmp_path}/defaults.yaml: cannot be read: No such file or directory",
    ]


def test_the_example_is_complete_but_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".ssh").mkdir()
    (tmp_path / ".ssh" / "id_ed25519").touch(0o600)
    problems = problems_of(EXAMPLE)
    assert problems
    assert [text for text in problems if "example value still in place" not in text] == []


def test_values_become_types() -> None:
    topology = topology_of(DATA / "valid")
    edge, load = topology.host("dock-edge"), topology.host("dock-load")
    assert list(topology.hosts) == ["dock-dash", "dock-prod", "dock-mirror", "dock-load", "dock-edge"]
    assert topology.cluster.wireguard.network == IPv4Network("10.20.0.0/24")
    assert edge.wireguard.address == IPv4Address("10.20.0.5")
    assert (edge.username, edge.port, edge.site) == ("edge", 22, "home")
    assert edge.ssh.transport is Transport.SYSTEM
    assert (edge.ssh.connect_timeout_s, edge.ssh.sudo) == (2.5, Sudo.PASSWORD)
    assert (load.username, load.port, load.ssh.sudo) == ("dockyard", 2222, Sudo.NOPASSWD)
    assert load.roles == {Role.K3S_SERVER, Role.ARBITRATOR}
    assert load.ssh.known_hosts == Path.home() / ".ssh" / "known_hosts"


def test_a_checksum_beside_the_binary_is_read_once_with_the_inventory(tmp_path: Path) -> None:
    binary, checksum = tmp_path / "k3s", tmp_path / "k3s.sha256"
    binary.touch()
    checksum.write_text(f"{'0f' * 32}  k3s\n", encoding="ascii")
    written(changed({"defaults/data/cluster/k3s": {"binary": str(binary)}}, tmp_path), tmp_path)
    k3s = topology_of(tmp_path).cluster.k3s
    checksum.unlink()
    assert k3s
    assert [k3s.digest(one) for one in Architecture] == ["0f" * 32] * 2


def test_root_needs_no_sudo(tmp_path: Path) -> None:
    (tmp_path / "password").touch(0o600)
    shared = {"sudo": "password", "sudo_password_file": "{tmp}/password"}
    written(changed({"hosts/dock-dash/username": "root", "defaults/data/ssh": shared}, tmp_path), tmp_path)
    hosts = topology_of(tmp_path).hosts
    assert (hosts["dock-dash"].ssh.sudo, hosts["dock-prod"].ssh.sudo) == (Sudo.ROOT, Sudo.PASSWORD)


ANNA = {"address": "10.20.0.100", "public_key": "EEEEEEEEEEEEEEEEEEEEEEEEEEEEEEEEEEEEEEEEEEE="}


def test_a_laptop_is_no_host_and_has_no_name_in_the_cluster(tmp_path: Path) -> None:
    written(changed({"defaults/data/cluster/wireguard/laptops": {"anna": ANNA}}, tmp_path), tmp_path)
    topology = topology_of(tmp_path)
    assert dict(topology.laptops) == {"anna": Laptop(IPv4Address("10.20.0.100"), ANNA["public_key"])}
    assert "anna" not in {*topology.hosts, *(name for name, _ in topology.addresses())}
    assert len(topology.directions()) == 20
    assert topology_of(DATA / "valid").laptops == {}


def test_a_topology_cannot_be_changed() -> None:
    topology = topology_of(DATA / "valid")
    with pytest.raises(AttributeError):
        topology.cluster.name = "other"  # type: ignore[misc]  # the point of the test
    with pytest.raises(TypeError):
        topology.hosts["x"] = topology.host("dock-prod")  # type: ignore[index]  # the point of the test


def test_queries() -> None:
    topology = topology_of(DATA / "valid")
    assert [host.name for host in topology.with_role(Role.K3S_WORKER)] == ["dock-prod", "dock-mirror"]
    assert {host.name for host in topology.peers_of("dock-prod")} == set(topology.hosts) - {"dock-prod"}
    assert len(set(topology.directions())) == 20
    assert topology.fqdn("grafana") == "grafana.dock.internal"
    with pytest.raises(UsageError, match="dock-x"):
        topology.host("dock-x")


@pytest.mark.parametrize(
    ("source", "target", "endpoint", "keepalive_s"),
    [
        ("dock-prod", "dock-edge", "192.168.1.11:51820", 0),  # one site: the LAN
        ("dock-load", "dock-mirror", "172.16.0.3:51820", 0),
        ("dock-mirror", "dock-load", "100.100.0.4:51820", 0),  # one site, no LAN address
        ("dock-dash", "dock-prod", "home.dock.test:51821", 0),  # a forwarded port
        ("dock-dash", "dock-edge", "None", 0),  # behind NAT
        ("dock-edge", "dock-dash", "dash.dock.test:51820", 25),
        ("dock-prod", "dock-dash", "dash.dock.test:51820", 25),  # behind a router that may forward nothing
        ("dock-dash", "dock-load", "100.100.0.4:51820", 0),
    ],
)
def test_the_way_between_two_hosts(source: str, target: str, endpoint: str, keepalive_s: int) -> None:
    topology = topology_of(DATA / "valid")
    assert str(topology.endpoint(source, target)) == endpoint
    assert topology.keepalive_s(source, target) == keepalive_s


@pytest.mark.parametrize(
    ("text", "endpoint", "is_name", "shown"),
    [
        ("dash.dock.test", Endpoint("dash.dock.test", 51820), True, "dash.dock.test:51820"),
        ("100.100.0.3:1", Endpoint("100.100.0.3", 1), False, "100.100.0.3:1"),
        ("fd00::3", Endpoint("fd00::3", 51820), False, "[fd00::3]:51820"),
        ("[fd00::3]", Endpoint("fd00::3", 51820), False, "[fd00::3]:51820"),
        ("[fd00::3]:7", Endpoint("fd00::3", 7), False, "[fd00::3]:7"),
        ("FD00:0::0003", Endpoint("fd00::3", 51820), False, "[fd00::3]:51820"),  # as the kernel prints it
        ("[fd00:0:0:0:0:0:0:3]:7", Endpoint("fd00::3", 7), False, "[fd00::3]:7"),
    ],
)
def test_endpoints_are_read_and_written(text: str, endpoint: Endpoint, is_name: bool, shown: str) -> None:
    assert Endpoint.parse(text, 51820) == endpoint
    assert (endpoint.is_name, str(endpoint)) == (is_name, shown)


def test_a_lan_address_is_written_as_the_kernel_prints_it(tmp_path: Path) -> None:
    written(changed({"hosts/dock-edge/data/wireguard/lan": "FD00:0::0005"}, tmp_path), tmp_path)
    assert topology_of(tmp_path).endpoint("dock-prod", "dock-edge") == Endpoint("fd00::5", 51820)


@pytest.mark.parametrize(
    "text", ["", ":1", "a:", "a:0", "a b", "[dash]:1", "[10.0.0.1]:1", "a:1:2", "[fd00::3", "10.0.0.256", "a:\u0661"]
)
def test_bad_endpoints_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"no endpoint|neither a DNS name|the port is not"):
        Endpoint.parse(text, 51820)


def test_where_an_inventory_is_looked_for(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("DOCKYARD_INVENTORY", raising=False)
    assert folder_of() == EXAMPLE
    assert folder_of("lab") == ROOT / "lab" / "inventory"
    assert folder_of(str(tmp_path)) == tmp_path
    monkeypatch.setenv("DOCKYARD_INVENTORY", "lab")
    assert folder_of(None) == ROOT / "lab" / "inventory"
    assert folder_of(str(tmp_path)) == tmp_path


def places(tree: Any, way: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Ways to every value below the top."""
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, value in items:
        yield (*way, key)
        yield from places(value, (*way, key))


# Every example writes its files anew, so one folder for all of them is no danger.
UNHEALTHY = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
ANY_TREE = tree_of(EXAMPLE)
keys = st.text(max_size=8) | st.integers() | st.none()
junk = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=20)
    | st.dates()
    | st.sampled_from(["10.20.0.1", "10.20.0.0/24", "home", "dock-load", "~nobody-here/x", "$HOME", "::1", "[::1]:5"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3),
    max_leaves=5,
)


@given(st.lists(st.tuples(st.sampled_from(list(places(ANY_TREE))), junk), min_size=1, max_size=4))
@example([(("groups", "home", "data"), {"site": "dc"}), (("hosts", "dock-dash", "port"), float("nan"))])
@settings(max_examples=150, deadline=None, suppress_health_check=UNHEALTHY)
def test_damage_is_only_ever_an_inventory_error(tmp_path: Path, damage: list[tuple[tuple[Any, ...], Any]]) -> None:
    tree = copy.deepcopy(ANY_TREE)
    for way, value in damage:
        place: Any = tree
        for key in way[:-1]:
            place = place[key] if isinstance(place, dict) and key in place else {}
        if isinstance(place, dict):
            place[way[-1]] = value
    for kind, content in tree.items():
        with (tmp_path / f"{kind}.yaml").open("w", encoding="utf-8") as file:
            YAML(typ="safe").dump(content, file)
    assert all(": " in problem for problem in problems_of(tmp_path))


@given(st.sampled_from(KINDS), st.integers(0, 3000), st.text(max_size=6))
@settings(max_examples=60, deadline=None, suppress_health_check=UNHEALTHY)
def test_damaged_text_is_only_ever_an_inventory_error(tmp_path: Path, kind: str, at: int, inserted: str) -> None:
    for name in KINDS:
        text = (EXAMPLE / f"{name}.yaml").read_text(encoding="utf-8")
        damaged = text[:at] + inserted + text[at + 3 :] if name == kind else text
        (tmp_path / f"{name}.yaml").write_bytes(damaged.encode("utf-8", "surrogatepass"))
    problems_of(tmp_path)


def validate(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "runbooks" / "validate.py"), *arguments]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=60, check=False)


def test_validate_shows_what_will_be_built(tmp_path: Path) -> None:
    run = validate("--inventory", str(DATA / "valid"), cwd=tmp_path)
    assert (run.returncode, run.stderr) == (0, "")
    assert re.search(r"dock-dash .*home\.dock\.test:51821 .*100\.100\.0\.3:51820 .*waits", run.stdout)
    assert re.search(r"dock-edge .*dash\.dock\.test:51820 \+25 s .*192\.168\.1\.10:51820 ", run.stdout)


def test_validate_has_json_for_programs(tmp_path: Path) -> None:
    run = validate("--inventory", str(DATA / "valid"), "--json", cwd=tmp_path)
    answer = json.loads(run.stdout)
    assert (run.returncode, answer["ok"], len(answer["directions"])) == (0, True, 20)
    assert {"source": "dock-dash", "target": "dock-edge", "endpoint": None, "keepalive_s": 0} in answer["directions"]


def test_validate_shows_laptops(tmp_path: Path) -> None:
    written(changed({"defaults/data/cluster/wireguard/laptops": {"anna": ANNA}}, tmp_path), tmp_path)
    run = validate("--inventory", str(tmp_path), cwd=tmp_path)
    assert "laptop anna: 10.20.0.100, a peer of every host; python runbooks/laptop.py anna\n" in run.stdout
    answer = json.loads(validate("--inventory", str(tmp_path), "--json", cwd=tmp_path).stdout)
    assert (answer["laptops"], len(answer["hosts"])) == ({"anna": "10.20.0.100"}, 5)


def test_validate_lists_mistakes_and_ends_with_2(tmp_path: Path) -> None:
    mistakes = {"hosts/dock-prod/data/wireguard/address": "10.20.0.300", "hosts/dock-dash/port": 0}
    written(changed(mistakes, tmp_path), tmp_path)
    text = validate("--inventory", str(tmp_path), cwd=tmp_path)
    assert text.returncode == 2
    assert "hosts.dock-prod.wireguard.address: 10.20.0.300 is not an IPv4 address\n" in text.stdout
    assert "2 mistakes" in text.stderr
    answer = validate("--inventory", str(tmp_path), "--json", cwd=tmp_path)
    assert answer.returncode == 2
    assert [problem["path"] for problem in json.loads(answer.stdout)["problems"]] == [
        "hosts.dock-dash.port",
        "hosts.dock-prod.wireguard.address",
    ]
