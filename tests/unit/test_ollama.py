"""Ollama: one drop-in, and limits that are believed only when the kernel has them."""

from __future__ import annotations

import http.server
import os
import subprocess
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dockyard.change import UnitState
from dockyard.errors import ParseError, Unreachable, UsageError
from dockyard.files import FileState
from dockyard.observe import Observed
from dockyard.service import ServiceState
from dockyard.topology import Ollama, Topology
from tasks import ollama
from tasks.ollama import DROP_IN, OLLAMA, UNIT, Limits, Load, OllamaState, read_facts, read_load
from tests.unit.meshes import HOSTS, topology

WANTED = Ollama(allow=("dock-prod", "dock-mirror"), cpus=1.5, memory_gib=2, origins=("https://chat.dock.internal",))
LAB = replace(topology(), cluster=replace(topology().cluster, ollama=WANTED))
EDGE = LAB.host("dock-edge")
HELD = ["ollama (tcp 10.20.0.5:11434)"]
LIMITS = Limits(
    cpus=1.5,
    memory=2 * 2**30,
    swap=0,
    allow=frozenset({"127.0.0.0/8", "::1/128", "10.20.0.2/32", "10.20.0.3/32", "10.20.0.5/32"}),
    deny=frozenset({"0.0.0.0/0", "::/0"}),
)


def state(*, mark: str | None = None, active: str = "active", enabled: str = "enabled", **parts: Any) -> OllamaState:
    text, right = ollama.drop_in(LAB, EDGE)
    unit = UnitState(name=UNIT, loaded=True, active=active, enabled=enabled, sub="running")
    service = ServiceState(
        unit=unit, result="success", restarts=0, mark=right if mark is None else mark, reload_needed=False
    )
    file = FileState(path=DROP_IN, kind="regular file", mode=0o644, owner="root", group="root", content=text)
    return replace(OllamaState(drop_in=file, service=service, limits=LIMITS, version="0.12.3"), **parts)


def absent() -> OllamaState:
    unit = UnitState(name=UNIT, loaded=False, active="inactive", enabled="", sub="dead")
    service = ServiceState(unit=unit, result="success", restarts=0, mark="", reload_needed=False)
    return OllamaState(drop_in=FileState(path=DROP_IN), service=service, limits=Limits(), version="")


def titles(found: OllamaState) -> list[str]:
    plan = ollama.plan_corner(LAB, Observed({"dock-edge": {OLLAMA.name: found}}))
    return [change.title for change in plan.get("dock-edge", ())]


def blamed(found: object, held_by: list[str] | None = HELD, cluster: Topology = LAB) -> list[str]:
    observed = Observed({"dock-edge": {OLLAMA.name: found}})
    findings = ollama.check_ollama(cluster, observed, holders=lambda *_: held_by)
    return [f"{finding.fault} ({finding.evidence})" for finding in findings]


def test_the_drop_in_says_where_who_and_how_much() -> None:
    lines = ollama.drop_in(LAB, EDGE)[0].splitlines()
    assert "Environment=OLLAMA_HOST=10.20.0.5:11434" in lines
    assert "Environment=OLLAMA_ORIGINS=https://chat.dock.internal" in lines
    assert {"CPUQuota=150%", "MemoryMax=2147483648", "MemorySwapMax=0", "Nice=10"} <= set(lines)
    assert "After=wg-quick@wg0.service" in lines
    assert [line for line in lines if line.startswith("IPAddress")] == [
        "IPAddressDeny=any",
        "IPAddressAllow=",
        "IPAddressAllow=localhost",
        "IPAddressAllow=10.20.0.5",
        "IPAddressAllow=10.20.0.2",
        "IPAddressAllow=10.20.0.3",
    ]


def test_only_the_host_with_the_role_is_asked_and_nobody_without_ollama() -> None:
    assert [name for name in HOSTS if OLLAMA.concerns(LAB, LAB.host(name))] == ["dock-edge"]
    assert not any(OLLAMA.concerns(topology(), topology().host(name)) for name in HOSTS)
    assert blamed(absent(), cluster=topology()) == []
    with pytest.raises(UsageError):
        ollama.drop_in(topology(), EDGE)


def test_it_is_put_into_its_corner_once() -> None:
    first = replace(absent(), service=replace(state(mark="").service))
    assert titles(first) == [f"write {DROP_IN}", "let systemd read its units again", f"systemctl restart -- {UNIT}"]
    assert titles(state()) == []
    assert titles(state(mark="0" * 16)) == [f"systemctl restart -- {UNIT}"]
    assert titles(absent()) == [], "nothing is downloaded"


@pytest.mark.parametrize(
    ("found", "held_by", "said"),
    [
        (absent(), [], "Ollama is not installed (there is no ollama.service)"),
        (state(drop_in=FileState(path=DROP_IN)), HELD, f"Ollama is not set up as planned ({DROP_IN})"),
        (state(active="failed", mark="", version=""), [], "Ollama does not run (failed (running), success)"),
        (state(mark="0" * 16), HELD, f"Ollama runs with older settings than those that are there ({DROP_IN})"),
        (
            state(version=""),
            [],
            "Ollama does not answer in the mesh (no version from http://10.20.0.5:11434; there listens: nobody)",
        ),
        (state(enabled="disabled"), HELD, "Ollama does not start at boot (disabled)"),
    ],
)
def test_the_first_cause_is_named(found: OllamaState, held_by: list[str], said: str) -> None:
    assert blamed(found, held_by) == [said]


def test_within_its_limits_nothing_is_said() -> None:
    assert blamed(state()) == []
    assert blamed(state(), None) == []
    (said,) = blamed(Unreachable("dock-edge", "no route"))
    assert said == "could not be looked at (no route)"


@pytest.mark.parametrize(
    ("limits", "what"),
    [
        (replace(LIMITS, cpus=None), "CPUs"),
        (replace(LIMITS, cpus=3.0), "CPUs"),
        (replace(LIMITS, memory=None), "memory"),
        (replace(LIMITS, memory=4 * 2**30), "memory"),
        (replace(LIMITS, swap=None), "swap"),
        (replace(LIMITS, allow=LIMITS.allow | {"10.20.0.0/24"}), "who may talk to it"),
        (replace(LIMITS, deny=frozenset()), "who may talk to it"),
        (Limits(), "CPUs, memory, swap, who may talk to it"),
    ],
)
def test_a_limit_that_the_kernel_does_not_have_is_named(limits: Limits, what: str) -> None:
    (said,) = blamed(state(limits=limits))
    assert said.startswith(f"Ollama is not held to its limits (not held to: {what}; ")


def test_a_kernel_that_does_not_count_memory_is_told_from_a_drop_in_that_is_undone() -> None:
    """Raspberry Pi OS starts with cgroup_disable=memory."""
    blind = replace(LIMITS, memory=None, swap=None, counts_memory=False)
    observed = Observed({"dock-edge": {OLLAMA.name: state(limits=blind)}})
    (finding,) = ollama.check_ollama(LAB, observed, holders=lambda *_: HELD)
    assert finding.fault == "the kernel holds nobody to a limit of memory"
    assert finding.lasting, "waiting does not mend it"
    assert "memory is not in /sys/fs/cgroup/cgroup.controllers" in finding.evidence
    for words in ("cgroup_enable=memory cgroup_memory=1", "/boot/firmware/cmdline.txt", "/boot/cmdline.txt", "reboot"):
        assert words in finding.advice
    first, second = blamed(state(limits=replace(blind, cpus=None)))
    assert first.startswith("the kernel holds nobody to a limit of memory")
    assert second.startswith("Ollama is not held to its limits (not held to: CPUs; ")


FACTS = """\
ControlGroup=/system.slice/ollama.service
IPAddressAllow=10.20.0.5/32 10.20.0.2/32 10.20.0.3/32 127.0.0.0/8 ::1/128
IPAddressDeny=0.0.0.0/0 ::/0
CPUUsageNSec=900000000000
MemoryCurrent=1610612736
ActiveEnterTimestampMonotonic=600000000
Controllers=cpuset cpu io memory hugetlb pids rdma misc
cpu.max=150000 100000
memory.max=2147483648
memory.swap.max=0
Uptime=4200.00
Load=0.52
CPUs=4
Version={"version":"0.12.3"}
"""


def test_what_the_probe_prints_is_read() -> None:
    assert read_facts(FACTS) == (LIMITS, "0.12.3")
    free = FACTS.replace("150000 1", "max 1").replace("=2147483648", "=max").replace("max=0", "max=max")
    limits, _ = read_facts(free)
    assert (limits.cpus, limits.memory, limits.swap) == (None, None, None)
    for word, counts in (("cpu io pids", False), ("cpu memory2", False), ("memory", True)):
        told = FACTS.replace("cpuset cpu io memory hugetlb pids rdma misc", word)
        assert read_facts(told)[0].counts_memory is counts
    stopped = "ControlGroup=\nIPAddressAllow=\nIPAddressDeny=\nVersion=\n"
    assert read_facts(stopped) == (Limits(), "")
    assert read_facts(FACTS.replace('{"version":"0.12.3"}', "<html>not found</html>"))[1] == ""


def test_what_it_takes_is_read_and_nothing_of_one_that_does_not_run() -> None:
    assert read_load(FACTS) == Load(cpus=0.25, memory=3 * 2**29, host=0.52, host_cpus=4)
    for unknown in ("[not set]", str(2**64 - 1)):
        stopped = FACTS.replace("=1610612736", f"={unknown}").replace("=900000000000", f"={unknown}")
        assert read_load(stopped) == Load(cpus=None, memory=None, host=0.52, host_cpus=4)
    uncounted = FACTS.replace("=1610612736", "=[not set]")
    assert read_load(uncounted) == Load(cpus=0.25, memory=None, host=0.52, host_cpus=4)
    just_now = FACTS.replace("=600000000\n", "=4200000000\n")
    assert read_load(just_now).cpus is None


@pytest.mark.parametrize(
    "text",
    [
        FACTS.replace("Load=0.52\n", ""),
        FACTS.replace("Load=0.52", "Load=high"),
        FACTS.replace("MemoryCurrent=", "MemoryCurrent=about "),
    ],
)
def test_a_load_that_is_not_told_is_an_error(text: str) -> None:
    with pytest.raises(ParseError):
        read_load(text)


@pytest.mark.parametrize("text", [f"{FACTS}Other=1\n", FACTS.replace("0.12.3", '0"')])
def test_what_is_not_known_is_an_error(text: str) -> None:
    with pytest.raises(ParseError):
        read_facts(text)


class Answering(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = b'{"version":"0.12.3"}'
        self.send_response(200 if self.path == "/api/version" else 404)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Nothing is said."""


def test_the_probe_asks_over_the_network_and_reads_what_systemd_shows(tmp_path: Path) -> None:
    stub = tmp_path / "systemctl"
    stub.write_text(f"#!/bin/sh\ncat <<'END'\n{FACTS.partition('Controllers')[0]}END\n")
    stub.chmod(0o755)
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    with http.server.HTTPServer(("127.0.0.1", 0), Answering) as server:
        threading.Thread(target=server.handle_request).start()
        script = ollama._ASK.replace("/sys/fs/cgroup", str(tmp_path))
        argv = ["sh", "-c", script, "ask", "127.0.0.1", str(server.server_port)]
        ran = subprocess.run(argv, capture_output=True, text=True, check=True, env=environment)
    assert read_facts(ran.stdout) == (Limits(allow=LIMITS.allow, deny=LIMITS.deny), "0.12.3")
    load = read_load(ran.stdout)
    assert (load.memory, load.host_cpus) == (3 * 2**29, len(os.sched_getaffinity(0)))
    (tmp_path / "cgroup.controllers").write_text("cpuset cpu io pids\n")
    closed = subprocess.run(argv, capture_output=True, text=True, check=True, env=environment)
    limits, version = read_facts(closed.stdout)
    assert (limits.counts_memory, version) == (False, "")
