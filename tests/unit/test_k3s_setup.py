"""From bare hosts to a cluster, and a second run that has nothing to do."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from dockyard.change import Plan
from dockyard.errors import CommandFailed, ParseError, StepFailed
from dockyard.files import FileState
from dockyard.observe import Observed
from dockyard.remote import Completed, Outputs
from dockyard.secret import Secret
from dockyard.service import unit_file
from dockyard.topology import Architecture, Topology
from runbooks.phase1_baseline import MANIFESTS
from tasks import k3s, opencloud
from tasks.k3s import binary, move, places
from tasks.k3s.config import texts
from tasks.k3s.facts import TokenSeen, read_facts
from tasks.k3s.nodes import Effect, Nodes
from tests.unit.kube import (
    DIGEST,
    LOAD,
    MIRROR,
    NODE_NAMES,
    PROD,
    STANDBY,
    VERSION,
    api,
    bare,
    objects,
    observed,
    planned,
    topology,
    unit,
)
from tests.unit.replicas import argvs, titles

LAB = topology()
EMPTY = k3s.Objects(answers=True)
NOBODY = k3s.Api(answers=True, nodes=Nodes(nodes={}))


def all_plans(cluster: Topology, found: Observed) -> list[Plan]:
    return [
        k3s.plan_binary(cluster, found),
        k3s.plan_files(cluster, found),
        k3s.plan_server(cluster, found),
        k3s.plan_token(cluster, found),
        k3s.plan_workers(cluster, found),
        k3s.plan_marks(cluster, found),
        k3s.plan_volumes(cluster, found),
        *(k3s.plan_apply(cluster, found, manifests=one) for one in MANIFESTS),
        opencloud.plan_secret(cluster, found),
    ]


def test_what_is_set_up_is_left_alone() -> None:
    found = observed(LAB, opencloud_secret={LOAD: True})
    assert [plan for plan in all_plans(LAB, found) if plan] == []


def test_without_k3s_in_the_inventory_nothing_is_planned_or_asked() -> None:
    without = replace(LAB, cluster=replace(LAB.cluster, k3s=None, opencloud=None))
    assert [plan for plan in all_plans(without, Observed()) if plan] == []
    assert k3s.check_put_back(without, Observed()) == []
    domains = (k3s.K3S, k3s.NODES, k3s.OBJECTS, k3s.STRANGER, opencloud.SECRET, opencloud.OPENCLOUD)
    assert not any(one.concerns(without, host) for one in domains for host in without.hosts.values())


def test_bare_hosts_get_the_release_and_others_never_do() -> None:
    found = observed(LAB, {host: bare(LAB, host) for host in NODE_NAMES}, nodes=NOBODY)
    plan = k3s.plan_binary(LAB, found)
    assert set(plan) == set(NODE_NAMES)
    assert any("releases/download/v1.33.5%2Bk3s1/k3s" in argv for argv in argvs(plan))
    assert {host.name for host in LAB.hosts.values() if k3s.K3S.concerns(LAB, host)} == set(NODE_NAMES)


def test_a_new_worker_gets_no_release_that_the_control_plane_does_not_run() -> None:
    old = "/usr/local/lib/dockyard/k3s-1111111111111111"
    hosts = {host: replace(planned(LAB, host), binary=old) for host in NODE_NAMES}
    found = observed(LAB, {**hosts, MIRROR: bare(LAB, MIRROR)})
    with pytest.raises(StepFailed, match=r"dock-load runs another release.*dock-mirror") as raised:
        k3s.plan_binary(LAB, found)
    assert "k3s_upgrade.py" in raised.value.advice
    upgraded = observed(LAB, {**hosts, LOAD: planned(LAB, LOAD), MIRROR: bare(LAB, MIRROR)})
    assert list(k3s.plan_binary(LAB, upgraded)) == [MIRROR], "a worker that waits for its upgrade is no obstacle"
    new_disk = observed(LAB, {**hosts, LOAD: bare(LAB, LOAD)})
    assert list(k3s.plan_binary(LAB, new_disk)) == [LOAD], "a control plane may be newer than its workers"
    assert k3s.plan_binary(LAB, observed(LAB, hosts)) == {}, "an upgrade is another runbook"


def test_a_machine_without_a_checksum_is_refused() -> None:
    arm = replace(bare(LAB, PROD), architecture=Architecture.ARM64, machine="aarch64")
    with pytest.raises(StepFailed, match="dock-prod is a aarch64"):
        k3s.plan_binary(LAB, observed(LAB, {**{host: bare(LAB, host) for host in NODE_NAMES}, PROD: arm}))


def test_a_file_of_this_machine_is_sent_with_its_checksum(tmp_path: Path) -> None:
    file = tmp_path / "k3s"
    file.write_bytes(b"#!/bin/sh\necho 'k3s version v1.33.5+k3s1 (test)'\n")
    cluster = topology(binary=file)
    plan = k3s.plan_binary(cluster, observed(cluster, {host: bare(cluster, host) for host in NODE_NAMES}))
    change = plan[PROD][0]
    (command,) = change.commands()
    assert command.stdin == file.read_bytes()
    assert DIGEST in command.argv
    assert DIGEST[:16] in change.diff()


@pytest.mark.parametrize(
    ("version", "wrong", "says"),
    [(VERSION, "", ""), ("", "", ""), (VERSION, "digest", "checksum"), ("v1.33.50+k3s1", "", "it says: k3s version")],
)
def test_what_was_received_is_put_in_place_only_when_it_is_the_right_one(
    tmp_path: Path, version: str, wrong: str, says: str
) -> None:
    content = f"#!/bin/sh\necho 'k3s version {VERSION} (test)'\n".encode()
    digest = subprocess.run(["sha256sum"], input=content, capture_output=True, check=True).stdout.decode().split()[0]
    script = binary._INSTALL.format(fetch=binary._RECEIVE)
    argv = [
        "sh",
        "-c",
        script,
        "install",
        DIGEST if wrong else digest,
        str(tmp_path / "store" / "k3s-1"),
        version,
        "link",
    ]
    ran = subprocess.run(argv, input=content, capture_output=True, check=False)
    assert says in ran.stderr.decode()
    assert (ran.returncode == 0) == (not says)
    left = [path.name for path in (tmp_path / "store").iterdir()]
    assert left == ([] if says else ["k3s-1"])


def test_a_release_is_switched_by_a_rename(tmp_path: Path) -> None:
    link = tmp_path / "k3s"
    for name in ("one", "two"):
        subprocess.run(
            ["sh", "-c", binary._SWITCH, "switch", str(tmp_path / name), str(link), str(tmp_path / "stale")], check=True
        )
        assert link.readlink() == tmp_path / name
        (tmp_path / name).touch()
    assert (tmp_path / "stale").exists()


def options(host: str) -> dict[str, object]:
    found: dict[str, object] = YAML(typ="safe").load(texts(LAB, LAB.host(host))[places.CONFIG][0])
    return found


def test_everything_is_in_the_mesh() -> None:
    server, worker = options(LOAD), options(PROD)
    assert (server["node-ip"], server["bind-address"], server["advertise-address"]) == ("10.20.0.4",) * 3
    assert (worker["node-ip"], worker["bind-address"], worker["server"]) == (
        "10.20.0.2",
        "10.20.0.2",
        "https://10.20.0.4:6443",
    )
    assert server["flannel-iface"] == worker["flannel-iface"] == "wg0"
    assert "token" not in {*server, *worker}
    assert worker["token-file"] == places.TOKEN
    assert worker["node-taint"] == ["dockyard.io/standby=true:NoSchedule"]
    assert "node-label" not in worker, "no node gives itself the label of the volumes"
    assert server["tls-san"] == ["10.20.0.4", LOAD, LAB.fqdn(LOAD)]
    assert server["disable"] == ["traefik", "servicelb", "local-storage", "metrics-server"], "ports without a socket"
    assert server["secrets-encryption"] is True
    assert server["node-taint"] == ["node-role.kubernetes.io/control-plane=true:NoSchedule"]
    for node in (server, worker):
        assert node["kube-proxy-arg"] == ["nodeport-addresses=10.20.0.0/24"]


def test_the_unit_waits_for_the_mesh_and_loads_the_guard() -> None:
    text = texts(LAB, LAB.host(MIRROR))[unit_file(places.AGENT)][0]
    assert "After=network-online.target wg-quick@wg0.service" in text
    for line in ("Type=notify", "KillMode=process", "Delegate=yes", f"ExecStartPre=nft -f {places.GUARD}"):
        assert f"\n{line}\n" in text
    assert "ExecStart=/usr/local/bin/k3s agent" in text


def test_changed_options_restart_what_runs_and_only_that() -> None:
    hosts = {host: planned(LAB, host) for host in NODE_NAMES}
    changed = replace(hosts[PROD], files={**hosts[PROD].files, places.CONFIG: FileState(path=places.CONFIG)})
    plan = titles(k3s.plan_files(LAB, observed(LAB, {**hosts, PROD: changed})))
    assert list(plan) == [PROD]
    assert plan[PROD][-1] == "start k3s-agent.service anew; containers go on"
    stopped = replace(changed, unit=unit(places.AGENT, "inactive"))
    plan = titles(k3s.plan_files(LAB, observed(LAB, {**hosts, PROD: stopped})))
    assert not any("anew" in title for title in plan[PROD])


def test_the_first_marks_make_one_home_and_no_other() -> None:
    fresh = api(LAB, dock_prod={"labels": {}, "taints": (STANDBY,)})
    plan = titles(k3s.plan_marks(LAB, observed(LAB, nodes=fresh, live=EMPTY)))
    assert plan == {LOAD: [f"label {PROD}: the volumes are there", f"let pods come to {PROD}"]}


def test_the_label_that_was_moved_is_left_where_it_is() -> None:
    here = {places.STORAGE_LABEL: places.HERE}
    moved = api(LAB, dock_prod={"labels": {}, "taints": (STANDBY,)}, dock_mirror={"labels": here, "taints": ()})
    assert k3s.plan_marks(LAB, observed(LAB, nodes=moved)) == {}
    back = api(LAB, dock_prod={"labels": {}, "taints": ()}, dock_mirror={"labels": here, "taints": ()})
    assert titles(k3s.plan_marks(LAB, observed(LAB, nodes=back))) == {
        LOAD: [f"keep pods away from {PROD}, which does not carry the volumes"]
    }


@pytest.mark.parametrize("effect", [Effect.PREFER_NO_SCHEDULE, Effect.NO_EXECUTE])
def test_a_taint_with_another_effect_is_mended(effect: Effect) -> None:
    """Beside it a worker gets the one that counts; from who carries the volumes it goes."""
    other = replace(STANDBY, effect=effect)
    found = observed(LAB, nodes=api(LAB, dock_mirror={"taints": (other,)}, dock_prod={"taints": (other,)}))
    assert titles(k3s.plan_marks(LAB, found)) == {
        LOAD: [f"let pods come to {PROD}", f"keep pods away from {MIRROR}, which does not carry the volumes"]
    }
    both = observed(LAB, nodes=api(LAB, dock_mirror={"taints": (other, STANDBY)}))
    assert k3s.plan_marks(LAB, both) == {}


def test_a_label_with_another_value_is_none() -> None:
    gone = api(LAB, dock_prod={"labels": {places.STORAGE_LABEL: "gone"}})
    found = observed(LAB, nodes=gone, live=EMPTY)
    assert titles(k3s.plan_marks(LAB, found)) == {LOAD: [f"label {PROD}: the volumes are there"]}


def test_a_label_that_went_with_its_node_is_not_given_to_somebody_else() -> None:
    """Copies of the data may lie on two workers: the one that had the label was forgotten."""
    lost = api(LAB, dock_prod={"labels": {}})
    with pytest.raises(StepFailed, match="where are their data") as refused:
        k3s.plan_marks(LAB, observed(LAB, nodes=lost))
    assert "k3s_move.py --to HOST" in refused.value.advice
    with pytest.raises(StepFailed, match="does not say whether there are volumes"):
        k3s.plan_marks(LAB, observed(LAB, nodes=lost, live=k3s.Objects(answers=False, said="refused")))


def test_two_labels_are_not_decided_by_us() -> None:
    both = api(LAB, dock_mirror={"labels": {places.STORAGE_LABEL: places.HERE}})
    with pytest.raises(StepFailed, match="dock-prod and dock-mirror both have the label"):
        k3s.plan_marks(LAB, observed(LAB, nodes=both))


def test_a_move_takes_the_label_before_it_gives_it() -> None:
    plan = argvs(move.plan_move(LAB, observed(LAB), to=MIRROR))
    order = [argv.split("node ", 1)[1].replace("'", "") for argv in plan]
    assert order == [
        f"{PROD} {places.STORAGE_LABEL}-",
        f"{PROD} {places.STANDBY_TAINT}=true:NoSchedule",
        f"{MIRROR} {places.STORAGE_LABEL}={places.HERE}",
        f"{MIRROR} {places.STANDBY_TAINT}-",
    ]
    with pytest.raises(StepFailed, match="no node"):
        move.plan_move(LAB, observed(LAB), to="dock-edge")


def without_volume(cluster: Topology, **parts: Any) -> dict[str, object]:
    hosts: dict[str, object] = {host: planned(cluster, host) for host in NODE_NAMES}
    return {**hosts, PROD: replace(planned(cluster, PROD), volumes={}, **parts)}


def test_a_volume_is_made_once_and_never_in_the_place_of_a_lost_one() -> None:
    plan = titles(k3s.plan_volumes(LAB, observed(LAB, without_volume(LAB), live=EMPTY)))
    assert plan == {PROD: ["make the volume opencloud in /srv/k3s/opencloud"]}
    with pytest.raises(StepFailed, match="was made before, and is not on dock-prod") as raised:
        k3s.plan_volumes(LAB, observed(LAB, without_volume(LAB)))
    assert "nothing is mounted at /srv/k3s" in raised.value.advice


def test_no_volume_is_made_while_nobody_knows_whether_it_was_made_before() -> None:
    for silent in ({"live": k3s.Objects(answers=False)}, {"nodes": k3s.Api(answers=False)}):
        with pytest.raises(StepFailed, match="nobody knows which volumes were made before"):
            k3s.plan_volumes(LAB, observed(LAB, without_volume(LAB), **silent))
    bare_hosts = {host: bare(LAB, host) for host in NODE_NAMES}
    pristine = observed(LAB, bare_hosts, nodes=k3s.Api(answers=False), live=k3s.Objects(answers=False))
    assert list(k3s.plan_volumes(LAB, pristine)) == [PROD], "a dry run on bare hosts shows what will be done"


def test_a_mount_point_is_closed_and_then_waited_for() -> None:
    cluster = topology(mounted=True)
    look = partial(observed, cluster, live=EMPTY)
    plan = titles(k3s.plan_volumes(cluster, look(without_volume(cluster))))
    assert plan == {PROD: ["make /srv/k3s, immutable while nothing is mounted"]}
    with pytest.raises(StepFailed, match="nothing is mounted at /srv/k3s on dock-prod"):
        k3s.plan_volumes(cluster, look(without_volume(cluster, closed=True)))
    assert "make the volume" in str(titles(k3s.plan_volumes(cluster, look(without_volume(cluster, mounted=True)))))


def test_a_change_by_hand_is_seen_and_applied_over() -> None:
    live = objects(LAB)
    key = ("Deployment", "opencloud", "opencloud")
    edited: Mapping[str, object] = {**live.live[key], "spec": {**live.live[key]["spec"], "replicas": 2}}
    found = observed(LAB, live=replace(live, live={**live.live, key: edited}))
    plan = k3s.plan_apply(LAB, found, manifests=MANIFESTS[-1])
    (change,) = plan[LOAD]
    assert change.title == "replace opencloud: Deployment opencloud: spec.replicas is 2 instead of 1"
    (command,) = change.commands()
    assert "replace --save-config -f -" in " ".join(command.argv)
    assert isinstance(command.stdin, bytes)
    assert json.loads(command.stdin)["kind"] == "Deployment", "and nothing else is replaced: a volume has a claim"


def test_what_is_not_there_is_applied() -> None:
    live = objects(LAB)
    left = {key: one for key, one in live.live.items() if key[0] != "Service"}
    left["Deployment", "opencloud", "opencloud"] = {}
    plan = k3s.plan_apply(LAB, observed(LAB, live=replace(live, live=left)), manifests=MANIFESTS[-1])
    assert [change.title.split()[0] for change in plan[LOAD]] == ["apply", "replace"]
    kinds = [re.findall('"kind": "(Service|Deployment)"', str(change.commands()[0].stdin)) for change in plan[LOAD]]
    assert kinds == [["Service"], ["Deployment"]], "each is sent once"


FACTS = """\
architecture||x86_64
binary||/usr/local/lib/dockyard/k3s-0f0f0f0f0f0f0f0f
stored||/usr/local/lib/dockyard/k3s-0f0f0f0f0f0f0f0f
token|600:root|0123456789abcdef
listen||10.20.0.2:10250
renewed||yes
guarded||yes
expiring|/var/lib/rancher/k3s/agent/client-kubelet.crt|Feb 10 10:00:00 2027 GMT
severed||yes
mtu||1370
closed||yes
volume|/srv/k3s/opencloud|opencloud
"""


def test_the_facts_of_a_node_are_read() -> None:
    state = read_facts(FACTS, unit(places.AGENT))
    assert (state.architecture, state.binary) == (Architecture.AMD64, places.stored(DIGEST))
    assert state.token == TokenSeen(fingerprint="0123456789abcdef", private=True)
    assert (state.renewed, state.guarded, state.severed, state.mtu) == (True, True, True, 1370)
    assert (state.listening, state.closed, state.mounted) == (("10.20.0.2:10250",), True, False)
    assert state.volumes == {"/srv/k3s/opencloud": "opencloud"}
    assert state.expiring == {places.CERTIFICATES[0]: "Feb 10 10:00:00 2027 GMT"}


@pytest.mark.parametrize(
    ("parts", "evidence"),
    [
        ({"foreign": places.BINARY}, "/usr/local/bin/k3s is no link to a release of Dockyard's"),
        ({"unit": unit(places.AGENT)}, "k3s-agent.service is active"),
    ],
)
def test_a_k3s_of_somebody_else_is_not_taken_over(parts: dict[str, Any], evidence: str) -> None:
    hosts = {**{host: planned(LAB, host) for host in NODE_NAMES}, PROD: replace(bare(LAB, PROD), **parts)}
    (found,) = k3s.check_strangers(LAB, observed(LAB, hosts))
    assert (found.host, found.fault) == (PROD, "a K3s of somebody else would be taken over")
    assert evidence in found.evidence
    for states in (hosts, {PROD: hosts[PROD]}):
        said = k3s.check_k3s(LAB, observed(LAB, states), manifests=())
        assert [one.fault for one in said] == [found.fault], "nothing is said of a cluster that may be theirs"


def test_what_was_changed_by_hand_in_ours_is_nobody_elses() -> None:
    ours = {host: planned(LAB, host) for host in NODE_NAMES}
    edited = FileState(path=places.CONFIG, kind="regular file", mode=0o600, owner="root", group="root", content="a: b")
    ours[PROD] = replace(ours[PROD], files={**ours[PROD].files, places.CONFIG: edited})
    ours[MIRROR] = bare(LAB, MIRROR)
    assert k3s.check_strangers(LAB, observed(LAB, ours)) == []


@pytest.mark.parametrize("kind", ["ours", "file", "link", "none"])
def test_the_probe_knows_whose_binary_it_is(tmp_path: Path, kind: str) -> None:
    binary, other = tmp_path / "k3s", tmp_path / "other"
    folder = tmp_path / "dockyard"
    folder.mkdir()
    release = folder / f"k3s-{DIGEST[:16]}"
    for path in (release, other):
        path.touch(mode=0o755)
    if kind == "file":
        binary.touch(mode=0o755)
    elif kind != "none":
        binary.symlink_to({"ours": release, "link": other}[kind])
    script = k3s.K3S.probes(LAB, LAB.host(PROD))[0].argv[2]
    script = script.replace("/usr/local/lib/dockyard", str(folder)).replace(places.BINARY, str(binary))
    ran = subprocess.run(["sh", "-c", script], check=True, capture_output=True, text=True)
    said = {line.split("|")[0] for line in ran.stdout.splitlines()} & {"binary", "foreign"}
    assert said == {"ours": {"binary"}, "none": set()}.get(kind, {"foreign"})


@pytest.mark.parametrize(("days", "told"), [(89, 1), (91, 0)])
def test_the_probe_tells_of_certificates_that_a_start_would_renew(tmp_path: Path, days: int, told: int) -> None:
    made = tmp_path / "client-kubelet.crt"
    new = ["openssl", "req", "-x509", "-newkey", "ed25519", "-nodes", "-subj", "/CN=node", "-days", str(days)]
    subprocess.run([*new, "-keyout", str(tmp_path / "key"), "-out", str(made)], check=True, capture_output=True)
    script = k3s.K3S.probes(LAB, LAB.host(PROD))[0].argv[2].replace(places.CERTIFICATES[0], str(made))
    text = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True).stdout
    assert len(read_facts(text, unit(places.AGENT)).expiring) == told


def test_the_probe_of_this_machine_is_understood(tmp_path: Path) -> None:
    (tmp_path / "opencloud").mkdir()
    (tmp_path / "opencloud" / places.MARKER).write_text("opencloud\n")
    assert LAB.cluster.k3s
    cluster = topology(volumes=replace(LAB.cluster.k3s.volumes, path=str(tmp_path)))
    command = k3s.K3S.probes(cluster, cluster.host(PROD))[0]
    text = subprocess.run(command.argv, capture_output=True, text=True, check=True).stdout
    state = read_facts(text, unit(places.AGENT))
    assert state.volumes == {f"{tmp_path}/opencloud": "opencloud"}
    assert not state.mounted


def test_a_dry_run_on_bare_hosts_shows_every_step_to_its_end() -> None:
    silent: dict[str, Any] = {"nodes": k3s.Api(answers=False), "live": k3s.Objects(answers=False)}
    pristine = observed(
        LAB,
        {host: bare(LAB, host) for host in NODE_NAMES},
        k3s_token={LOAD: Secret("")},
        opencloud_secret={LOAD: False},
        **silent,
    )
    shown = [change.title for plan in all_plans(LAB, pristine) for changes in plan.values() for change in changes]
    for part in ("download K3s", "start k3s.service", "start k3s-agent.service", "make the volume", "apply opencloud"):
        assert any(title.startswith(part) for title in shown), part
    written = k3s.plan_token(LAB, pristine)
    assert all(change.provisional for changes in written.values() for change in changes)


def outputs(host: str, **answers: tuple[int, str, str]) -> Outputs:
    """Answers by name (``_`` for a blank): exit code, standard output and error."""
    completed = [
        Completed(name=name.replace("_", " "), argv=("k3s",), exit_code=code, stdout=out, stderr=err, duration_s=0.1)
        for name, (code, out, err) in answers.items()
    ]
    domains = (k3s.NODES, k3s.OBJECTS, opencloud.SECRET, opencloud.OPENCLOUD)
    commands = [one for domain in domains for one in domain.probes(LAB, LAB.host(host))]
    return Outputs(host, completed, commands, received_at=1_795_421_500.0)


NODE_LIST = """{"kind": "List", "items": [{"kind": "Node",
  "metadata": {"name": "dock-load", "creationTimestamp": "2026-11-20T00:00:00Z"}, "spec": {},
  "status": {"conditions": [{"type": "Ready", "status": "True", "reason": "KubeletReady"}],
    "nodeInfo": {"kubeletVersion": "v1.33.5+k3s1", "osImage": "Debian", "kernelVersion": "6.12",
      "containerRuntimeVersion": "containerd://2"}}}]}"""


def test_what_the_api_answers_is_read_and_no_answer_is_a_state_of_its_own() -> None:
    host = LAB.host(LOAD)
    read = k3s.NODES.read(LAB, host, outputs(LOAD, k3s_nodes=(0, NODE_LIST, "")))
    assert (read.answers, list(read.nodes.nodes)) == (True, [LOAD])
    for code, said in ((1, "E1126 memcache.go\nThe connection to the server was refused"), (127, "k3s: not found")):
        for domain, name in ((k3s.NODES, "k3s_nodes"), (k3s.OBJECTS, "k3s_objects")):
            away = domain.read(LAB, host, outputs(LOAD, **{name: (code, "", said)}))
            assert (away.answers, away.said) == (False, said.splitlines()[-1])
    with pytest.raises(CommandFailed):
        k3s.NODES.read(LAB, host, outputs(LOAD, k3s_nodes=(2, "", "usage")))
    pod = '{"kind": "Pod", "metadata": {"name": "a"}}'
    twice = f'{{"kind": "List", "items": [{pod}, {pod}]}}'
    with pytest.raises(ParseError, match="twice"):
        k3s.OBJECTS.read(LAB, host, outputs(LOAD, k3s_objects=(0, twice, "")))


def test_what_opencloud_answers_is_read() -> None:
    host = LAB.host(PROD)
    assert opencloud.OPENCLOUD.read(LAB, host, outputs(PROD, opencloud=(0, "200", ""))).status == 200
    assert opencloud.OPENCLOUD.read(LAB, host, outputs(PROD, opencloud=(0, "000", ""))).status == 0
    for code, text, there in ((0, "secret/opencloud\n", True), (0, "", False), (127, "", False)):
        assert opencloud.SECRET.read(LAB, host, outputs(PROD, opencloud_secret=(code, text, ""))) is there
