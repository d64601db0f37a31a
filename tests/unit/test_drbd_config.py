"""The resource file, the secret and the usage counter. The real drbdadm reads what we write, where it is installed."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from dockyard.change import WriteFile
from dockyard.errors import StepFailed, Unreachable
from dockyard.files import FileState
from dockyard.observe import Observed
from dockyard.remote import Completed, Outputs
from dockyard.secret import Secret
from dockyard.topology import FileSystem
from tasks import drbd
from tasks.drbd import config, places, replica, tools
from tests.unit.replicas import (
    HOSTS,
    LOAD,
    MIRROR,
    PAIR,
    PROD,
    VERSIONS,
    healthy,
    observed,
    pristine,
    titles,
    topology,
    with_facts,
)

DATA = Path(__file__).parent.parent / "data" / "drbd"
SECRET = "5e" * 24
CASES = {
    "lab_8.4.res": (False, None),
    "lab_9.res": (True, None),
    "external_8.4.res": (False, "/dev/vdc"),
    "external_9.res": (True, "/dev/vdc"),
}


def written(nine: bool, metadata: str | None = None) -> str:
    """The file as `plan_config` would write it, with the secret still hidden."""
    plan = drbd.plan_config(topology(metadata=metadata), observed({host: pristine(host, nine=nine) for host in HOSTS}))
    files = [change for changes in plan.values() for change in changes if change.title.endswith("data.res")]
    texts = {file.content for file in files if isinstance(file, WriteFile)}
    assert len(files) == (3 if nine else 2)
    (text,) = texts
    assert isinstance(text, str)
    return text


@pytest.mark.parametrize("name", CASES)
def test_the_file_is_as_it_was_reviewed(name: str) -> None:
    assert written(*CASES[name]) == (DATA / name).read_text()


def test_the_file_is_the_same_on_all_hosts_and_private() -> None:
    plan = drbd.plan_config(topology(), observed({host: pristine(host) for host in HOSTS}))
    assert set(plan) == set(PAIR)
    for changes in plan.values():
        (file,) = [one for one in changes if isinstance(one, WriteFile) and one.path.endswith("data.res")]
        assert (file.mode, file.owner) == (0o600, "root")


def test_node_ids_outlast_an_exchange_of_roles() -> None:
    """DRBD 9 keeps the node id in its metadata, and bitmaps by the ids of the peers."""
    one = config.resource_file(topology(), [PROD, MIRROR, LOAD], quorum=True)
    other = config.resource_file(topology(), [MIRROR, PROD, LOAD], quorum=True)
    sections = [sorted(part.split("}")[0] for part in text.split("\n    on ")[1:]) for text in (one, other)]
    assert sections[0] == sections[1]


@pytest.mark.parametrize("judge", ["dock-dash", "dock-edge", LOAD])
def test_node_ids_outlast_a_move_of_the_arbitrator(judge: str) -> None:
    bare = topology()
    moved = replace(bare, cluster=replace(bare.cluster, arbitrator=judge))
    assert [config.node_id(moved, host) for host in (MIRROR, PROD, judge)] == [0, 1, 2]


# --- what drbdadm says of it


@functools.cache
def why_no_drbdadm() -> str:
    if not shutil.which("drbdadm"):
        return "drbd-utils is not installed"
    tried = subprocess.run(["unshare", "-u", "hostname", PROD], capture_output=True, text=True, check=False)
    return f"no own host name can be given to a process here: {tried.stderr.strip()}" if tried.returncode else ""


def as_host(host: str, nine: bool, *argv: str) -> subprocess.CompletedProcess[str]:
    """Run a command where ``uname -n`` is ``host`` and drbdadm believes in a module of the given generation."""
    if why_no_drbdadm():
        pytest.skip(why_no_drbdadm())
    env = {**os.environ, "DRBD_DRIVER_VERSION_OVERRIDE": VERSIONS[nine], "LC_ALL": "C"}
    script = 'hostname "$1" && shift && exec "$@"'
    argv = ("unshare", "-u", "sh", "-c", script, "as", host, *argv)
    return subprocess.run(argv, env=env, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(("name", "host"), [(name, host) for name in CASES for host in HOSTS])
def test_drbdadm_reads_it(tmp_path: Path, name: str, host: str) -> None:
    nine, metadata = CASES[name]
    path = tmp_path / "data.res"
    path.write_text((DATA / name).read_text().replace(config.HIDDEN, SECRET))
    done = as_host(host, nine, "drbdadm", "--config-file", str(path), "dump", "data")
    if host == LOAD and not nine:
        assert "not defined in your config (for this host)" in done.stderr
        return
    assert done.returncode == 0, done.stderr
    dumped = " ".join(done.stdout.split())
    wanted = ["protocol A;", "al-extents 71;", "on-congestion block;", "after-sb-1pri disconnect;", SECRET]
    wanted += ["quorum majority;", "on-no-quorum io-error;", "auto-promote no;", "disk none;"] if nine else []
    wanted += [f"meta-disk {metadata};"] if metadata else ["meta-disk internal;"]
    for setting in wanted:
        assert setting in dumped


def write(tmp_path: Path, nine: bool = False) -> tuple[WriteFile, Path]:
    """The change that writes the resource file, moved into a folder of ours."""
    plan = drbd.plan_config(topology(), observed({host: pristine(host, nine=nine) for host in HOSTS}))
    (file,) = [one for one in plan[PROD] if isinstance(one, WriteFile) and one.path.endswith("data.res")]
    folder = tmp_path / "drbd.d"
    folder.mkdir(exist_ok=True)

    def moved(words: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(word.replace(places.FOLDER, str(folder)) for word in words)

    path = folder / "data.res"
    return replace(
        file,
        path=str(path),
        seen=FileState(path=str(path)),
        owner=str(os.getuid()),
        group=str(os.getgid()),
        prepare=moved(file.prepare),
        validate=moved(file.validate),
    ), folder


def carry_out(file: WriteFile, nine: bool = False) -> subprocess.CompletedProcess[str]:
    (command,) = file.commands()
    assert isinstance(command.stdin, bytes)
    content = Path(file.path).parent.parent / "content"
    content.write_bytes(command.stdin)
    return as_host(PROD, nine, "sh", "-c", 'exec "$@" <"$0"', str(content), *command.argv)


@pytest.mark.parametrize("nine", [False, True])
def test_the_secret_is_put_in_on_the_host_before_the_file_is_read(tmp_path: Path, nine: bool) -> None:
    file, folder = write(tmp_path, nine)
    (folder / "data.secret").write_text(f"{SECRET}\n")
    done = carry_out(file, nine)
    assert done.returncode == 0, done.stderr
    path = folder / "data.res"
    assert path.read_text() == written(nine).replace(config.HIDDEN, SECRET)
    assert path.stat().st_mode & 0o777 == 0o600
    assert sorted(one.name for one in folder.iterdir()) == ["data.res", "data.secret"]
    assert SECRET not in done.stdout + done.stderr


def test_a_file_that_drbdadm_refuses_does_not_show_its_secret(tmp_path: Path) -> None:
    """drbdadm prints all that it reads, and what a check prints is told when the check fails."""
    file, folder = write(tmp_path)
    (folder / "data.secret").write_text(f"{SECRET}\n")
    (tmp_path / "drbdadm").write_text('#!/bin/sh\ncat "$(dirname "$2")/data.res"; echo refused >&2; exit 10\n')
    (tmp_path / "drbdadm").chmod(0o755)
    check = tuple(word.replace("drbdadm", str(tmp_path / "drbdadm")) for word in file.validate)
    (command,) = replace(file, validate=check).commands()
    assert isinstance(command.stdin, bytes)
    done = subprocess.run(command.argv, input=command.stdin, capture_output=True, check=False, timeout=30)
    assert (done.returncode, done.stderr) == (10, b"refused\n\n")
    assert not (folder / "data.res").exists()


@pytest.mark.parametrize("content", [None, "", "\n"])
def test_without_a_secret_nothing_is_written(tmp_path: Path, content: str | None) -> None:
    file, folder = write(tmp_path)
    if content is not None:
        (folder / "data.secret").write_text(content)
    assert carry_out(file).returncode != 0
    assert not (folder / "data.res").exists()


def other_resource(minor: int, port: int) -> str:
    hosts = "".join(f"on {host} {{ address 10.20.0.{number}:{port}; }} " for number, host in enumerate(PAIR, 2))
    return f"resource other {{ device minor {minor}; disk /dev/vdz; meta-disk internal; {hosts}}}\n"


@pytest.mark.parametrize(("minor", "port", "fits"), [(7, 7799, True), (0, 7799, False), (7, 7788, False)])
def test_a_file_that_clashes_with_another_resource_is_not_written(
    tmp_path: Path, minor: int, port: int, fits: bool
) -> None:
    """One clash makes every drbdadm fail, for the other resource, too (rc 10)."""
    file, folder = write(tmp_path)
    (folder / "data.secret").write_text(f"{SECRET}\n")
    (folder / "global_common.conf").write_text("global { usage-count no; }\ncommon { net { max-buffers 8000; } }\n")
    (folder / "other.res").write_text(other_resource(minor, port))
    done = carry_out(file)
    assert ((done.returncode == 0), (folder / "data.res").exists()) == (fits, fits), done.stderr


def test_the_old_file_is_no_obstacle_to_the_new_one(tmp_path: Path) -> None:
    file, folder = write(tmp_path)
    (folder / "data.secret").write_text(f"{SECRET}\n")
    assert carry_out(file).returncode == 0
    assert carry_out(file).returncode == 0


# --- the secret


def test_the_first_replica_makes_the_secret() -> None:
    plan = drbd.plan_secret(topology(), observed({host: pristine(host) for host in HOSTS}))
    assert titles(plan) == {PROD: ["make the secret /etc/drbd.d/data.secret"]}


def test_a_secret_is_made_whole_and_once(tmp_path: Path) -> None:
    if not shutil.which("openssl"):
        pytest.skip("openssl is not installed")
    (change,) = drbd.plan_secret(topology(), observed({host: pristine(host) for host in HOSTS}))[PROD]
    path = tmp_path / "data.secret"
    argv = [word.replace("/etc/drbd.d", str(tmp_path)) for word in change.commands()[0].argv]
    assert subprocess.run(argv, check=False).returncode == 0
    first = path.read_text()
    assert (len(first.strip()), path.stat().st_mode & 0o777) == (48, 0o600)
    assert subprocess.run(argv, check=False).returncode != 0
    assert path.read_text() == first


@pytest.mark.parametrize(("holder", "lacking"), [(PROD, MIRROR), (MIRROR, PROD)])
def test_the_secret_goes_to_who_lacks_it_and_is_shown_nowhere(holder: str, lacking: str) -> None:
    states = {host: pristine(host) for host in HOSTS}
    states[holder] = with_facts(states[holder], secret="abcd")
    seen = observed(states)
    shared = {holder: {config.SECRET.name: Secret(SECRET)}, lacking: {config.SECRET.name: Secret("")}}
    merged = replace(seen, states={host: {**kept, **shared.get(host, {})} for host, kept in seen.states.items()})
    assert drbd.plan_secret(topology(), merged) == {}
    plan = drbd.plan_share_secret(topology(), merged)
    (change,) = plan[lacking]
    assert list(plan) == [lacking]
    assert isinstance(change, WriteFile)
    assert isinstance(change.content, Secret)
    assert (change.content.reveal(), change.mode) == (SECRET, 0o600)
    assert SECRET not in change.diff() + repr(change) + repr(plan)


def test_a_file_with_another_secret_is_written_again() -> None:
    states = healthy()
    states[MIRROR] = with_facts(states[MIRROR], inline="other")
    assert titles(drbd.plan_config(topology(), observed(states))) == {MIRROR: ["write /etc/drbd.d/data.res"]}


def test_the_secret_never_leaves_the_host_with_the_file(tmp_path: Path) -> None:
    path = tmp_path / "data.res"
    path.write_text(written(False).replace(config.HIDDEN, SECRET))
    command = replica._masked(str(path))
    done = subprocess.run(command.argv, capture_output=True, text=True, check=True)
    completed = Completed(command.name, command.argv, 0, done.stdout, "", 0.1)
    state = FileState.of(Outputs(PROD, [completed], [command], sent_at=0.0, received_at=0.0), str(path))
    assert state.content == written(False)


# --- versions, names, usage count


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        ({MIRROR: {"available": ""}}, "no DRBD module for the kernel of dock-mirror"),
        ({MIRROR: {"available": "9.2.16"}}, "different versions of DRBD: dock-prod has 8.4.11, dock-mirror has 9.2.16"),
        ({MIRROR: {"loaded": "8.4.11", "available": "9.2.16"}}, "dock-mirror runs DRBD 8.4.11, and will load 9.2.16"),
        ({PROD: {"hostname": "prod"}}, "dock-prod calls itself 'prod'"),
    ],
)
def test_what_cannot_work_is_refused(broken: dict[str, dict[str, str]], said: str) -> None:
    states = {host: pristine(host) for host in HOSTS}
    states |= {host: with_facts(states[host], **parts) for host, parts in broken.items()}
    with pytest.raises(StepFailed, match=said):
        drbd.plan_config(topology(), observed(states))


@pytest.mark.parametrize("available", ["", "8.4.11"])
def test_a_tie_breaker_without_drbd_9_is_refused(available: str) -> None:
    states = {host: pristine(host, nine=True) for host in HOSTS}
    states[LOAD] = with_facts(states[LOAD], available=available)
    with pytest.raises(StepFailed, match=f"dock-load, the tie-breaker, has {available or 'no module'}"):
        drbd.plan_config(topology(), observed(states))


def test_with_8_4_nothing_is_asked_of_the_arbitrator() -> None:
    states: dict[str, object] = {**healthy(), LOAD: Unreachable(LOAD, "no route")}
    assert drbd.plan_config(topology(), observed(states)) == {}


NO = "global {\n    usage-count no;\n}\n"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("", NO),
        ("common { }\n", f"{NO}common {{ }}\n"),
        (NO, NO),
        ("global {\n\tusage-count yes;\n\t# minor-count\n}\n", "global {\n\tusage-count no;\n\t# minor-count\n}\n"),
        ("global { usage-count ask; }\n", "global { usage-count no; }\n"),
        ("global {\n    # usage-count yes;\n}\n", "global {\n    usage-count no;\n    # usage-count yes;\n}\n"),
        ("# usage-count yes;\n", f"{NO}# usage-count yes;\n"),
        ("global { dialog-refresh 5; }\n", "global {\n    usage-count no; dialog-refresh 5; }\n"),
    ],
)
def test_the_usage_counter_is_off_and_all_else_stays(tmp_path: Path, before: str, after: str) -> None:
    seen = FileState(path=places.GLOBAL, kind="regular file", mode=0o644, owner="root", group="root", content=before)
    (change,) = config._no_usage_count(seen) or (WriteFile(path=places.GLOBAL, content=before, seen=seen),)
    assert isinstance(change, WriteFile)
    assert change.content == after
    path = tmp_path / "all.conf"
    path.write_text(after + written(False).replace(config.HIDDEN, SECRET))
    done = as_host(PROD, False, "drbdadm", "--config-file", str(path), "dump", "data")
    assert done.returncode == 0, done.stderr


# --- tools


@pytest.mark.parametrize(("module", "others"), [("8.4.11", {}), ("9.2.16", {LOAD: ["install drbd-utils"]})])
def test_what_is_missing_is_installed_on_the_replicas_and_a_tie_breaker(module: str, others: dict[str, object]) -> None:
    found = {PROD: set(), MIRROR: {"drbdadm", "lsattr"}, LOAD: {"drbdadm"}, "dock-edge": {"drbdadm"}}
    seen: dict[str, dict[str, object]] = {
        host: {tools.TOOLS.name: tools.Tools(missing=frozenset(missing), module=module)}
        for host, missing in found.items()
    }
    plan = drbd.plan_tools(topology(), replace(observed({}), states=seen))
    assert titles(plan) == {MIRROR: ["install drbd-utils, e2fsprogs"], **others}
    (command,) = plan[MIRROR][0].commands()
    assert command.argv[-2:] == ("drbd-utils", "e2fsprogs")
    for words in (
        "DEBIAN_FRONTEND=noninteractive NEEDRESTART_SUSPEND=1",
        "apt-get install -q -y --no-install-recommends",
    ):
        assert words in command.argv[2]


def test_missing_tools_are_named_without_a_module() -> None:
    (command,) = tools.TOOLS.probes(topology(), topology().host(PROD))
    argv = ["/bin/sh", *command.argv[1:]]
    done = subprocess.run(argv, env={"PATH": "/nowhere"}, capture_output=True, text=True, check=True)
    completed = Completed(command.name, command.argv, 0, done.stdout, "", 0.1)
    outputs = Outputs(PROD, [completed], [command], sent_at=0.0, received_at=0.0)
    state = tools.TOOLS.read(topology(), topology().host(PROD), outputs)
    assert state == tools.Tools(missing=frozenset({*tools.PACKAGES, "mkfs.ext4"}), module="")


def test_what_makes_the_file_system_is_installed_with_the_rest() -> None:
    cluster = topology()
    assert cluster.cluster.drbd
    on_xfs = replace(cluster.cluster.drbd, filesystem=FileSystem.XFS)
    cluster = replace(cluster, cluster=replace(cluster.cluster, drbd=on_xfs))
    lacking = Observed({PROD: {tools.TOOLS.name: tools.Tools(missing=frozenset({"mkfs.xfs"}), module="")}})
    assert "mkfs.xfs" in tools.TOOLS.probes(cluster, cluster.host(PROD))[0].argv[2]
    assert titles(drbd.plan_tools(cluster, lacking)) == {PROD: ["install xfsprogs"]}


def test_a_resource_file_of_somebody_else_is_left_alone() -> None:
    states = {host: pristine(host) for host in HOSTS}
    path = places.config(replica.replication_of(topology()))
    by_hand = FileState(path=path, kind="regular file", content="resource data {\n    protocol C;\n}\n")
    states[MIRROR] = replace(states[MIRROR], files={**states[MIRROR].files, path: by_hand})
    with pytest.raises(StepFailed, match=r"/etc/drbd.d/data.res on dock-mirror is not Dockyard's") as refused:
        drbd.plan_config(topology(), observed(states))
    assert "drbdadm down data, and move the file away" in refused.value.advice


def test_node_ids_that_are_there_already_are_not_changed_under_the_metadata() -> None:
    states = {host: pristine(host, nine=True) for host in HOSTS}
    path = places.config(replica.replication_of(topology()))
    older = (DATA / "lab_9.res").read_text().replace("node-id 1;", "node-id 7;")
    states[PROD] = replace(
        states[PROD], files={**states[PROD].files, path: FileState(path=path, kind="regular file", content=older)}
    )
    with pytest.raises(StepFailed, match=r"dock-prod: other node ids .* \(dock-prod 7 -> 1\)"):
        drbd.plan_config(topology(), observed(states))
