"""Ollama in its corner: on the mesh only, for the hosts of an allow-list, within limits of CPU and memory.

Ollama itself is not in Debian and is never downloaded here: whoever runs it has installed it (docs/services.md). What
Dockyard adds is one drop-in of ollama.service; see systemd.resource-control(5) for its limits.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from dockyard.change import Plan, WriteFile, filled
from dockyard.errors import UsageError
from dockyard.files import FileState, read_file
from dockyard.findings import Cause, Finding
from dockyard.observe import Domain, Holders, Observed
from dockyard.parsing import Printed
from dockyard.remote import Command, Outputs
from dockyard.rendering import render
from dockyard.service import ServiceState, mark_of, plan_service, service_probe
from dockyard.topology import Host, Ollama, Role, Topology
from dockyard.unseen import unseen

UNIT = "ollama.service"
DROP_IN = "/etc/systemd/system/ollama.service.d/zz-dockyard.conf"
"""Behind the ``override.conf`` of ``systemctl edit``: the last one that sets something wins (systemd.unit(5))."""

EVERYBODY = frozenset({"0.0.0.0/0", "::/0"})
LOCALHOST = frozenset({"127.0.0.0/8", "::1/128"})
"""What ``any`` and ``localhost`` stand for (systemd.resource-control(5), IPAddressAllow=)."""

MEND = "python runbooks/phase1_baseline.py mends it"
_PAGE = 65536
_NOT_SET = 2**64 - 1
_LOAD = ("CPUUsageNSec", "MemoryCurrent", "ActiveEnterTimestampMonotonic", "Uptime", "Load", "CPUs")
_PROBE = "ollama facts"
_ASK = """\
shown=$(systemctl show --property=ControlGroup,IPAddressAllow,IPAddressDeny,CPUUsageNSec,MemoryCurrent,\
ActiveEnterTimestampMonotonic -- ollama.service) || exit
printf '%s\\n' "$shown"
group=${shown#*ControlGroup=}; group=/sys/fs/cgroup${group%%
*}
there=/sys/fs/cgroup/cgroup.controllers
[ ! -r "$there" ] || { read -r value <"$there" && printf 'Controllers=%s\\n' "$value"; }
for name in cpu.max memory.max memory.swap.max; do
  [ ! -r "$group/$name" ] || { read -r value <"$group/$name" && printf '%s=%s\\n' "$name" "$value"; }
done
read -r uptime _ </proc/uptime; read -r _ load _ </proc/loadavg
printf 'Uptime=%s\\nLoad=%s\\nCPUs=%s\\n' "$uptime" "$load" "$(nproc)"
request='exec 3<>"/dev/tcp/$1/$2" && printf "GET /api/version HTTP/1.0\\r\\nHost: $1\\r\\n\\r\\n" >&3 && cat <&3'
said=$(timeout 5 bash -c "$request" ask "$1" "$2" 2>/dev/null | sed -n '$p' | tr -cd ' -~')
printf 'Version=%s\\n' "$said\""""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What the kernel holds the running Ollama to. None: no limit, or nothing runs.

    ``cpus`` and ``memory`` (bytes) of its control group; the networks that may and may not talk to it. A kernel that
    does not count the memory of control groups (``counts_memory``) holds nobody to a limit of it.
    """

    cpus: float | None = None
    memory: int | None = None
    swap: int | None = None
    allow: frozenset[str] = frozenset()
    deny: frozenset[str] = frozenset()
    counts_memory: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What the running Ollama takes: ``cpus`` on average since it started, ``memory`` now, in bytes. None: not counted.

    ``host`` is the load average of the whole machine over five minutes (proc_loadavg(5)), ``host_cpus`` what it has.
    """

    cpus: float | None = None
    memory: int | None = None
    host: float = 0.0
    host_cpus: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class OllamaState:
    """``version`` is what it answers on its mesh address, "" when it does not."""

    drop_in: FileState
    service: ServiceState
    limits: Limits
    version: str
    load: Load = Load()

    @property
    def installed(self) -> bool:
        """Whether there is an ollama.service."""
        return self.service.unit.loaded


def _ollama_of(topology: Topology) -> Ollama:
    if topology.cluster.ollama is None:
        raise UsageError("the inventory has no cluster.ollama", advice="inventory/defaults.yaml says how to give it.")
    return topology.cluster.ollama


def _probes(topology: Topology, host: Host) -> Sequence[Command]:
    where = (str(host.wireguard.address), str(_ollama_of(topology).port))
    return [read_file(DROP_IN), service_probe(UNIT), Command(_PROBE, ("sh", "-c", _ASK, "ask", *where), timeout_s=30)]


def _read(_topology: Topology, _host: Host, outputs: Outputs) -> OllamaState:
    text = outputs.text(_PROBE)
    limits, version = read_facts(text)
    return OllamaState(
        drop_in=FileState.of(outputs, DROP_IN),
        service=ServiceState.of(outputs, UNIT),
        limits=limits,
        version=version,
        load=read_load(text),
    )


def read_facts(text: str) -> tuple[Limits, str]:
    """What the probe printed: the limits, and the version of what answers; raises ParseError."""
    printed = Printed(_PROBE, text)
    said = {row["key"]: row["value"] for row in printed.rows("ollama_facts")}
    limits = Limits(
        cpus=_cpus(said.get("cpu.max", "max")),
        memory=_number(said.get("memory.max", "max")),
        swap=_number(said.get("memory.swap.max", "max")),
        allow=frozenset(said["IPAddressAllow"].split()),
        deny=frozenset(said["IPAddressDeny"].split()),
        counts_memory="memory" in said.get("Controllers", "memory").split(),
    )
    answer = Printed("GET /api/version", said["Version"])
    return limits, str(answer.json().get("version", "")) if answer.text.startswith("{") else ""


def read_load(text: str) -> Load:
    """What the probe printed of what Ollama and its host do; raises ParseError."""
    printed = Printed(_PROBE, text)
    said = {row["key"]: row["value"] for row in printed.rows("ollama_facts")}
    if missing := [key for key in _LOAD if key not in said]:
        raise printed.error(0, f"lacks {', '.join(missing)}")
    memory, spent_ns = _counted(said["MemoryCurrent"]), _counted(said["CPUUsageNSec"])
    runs_s = float(said["Uptime"]) - int(said["ActiveEnterTimestampMonotonic"]) / 1e6
    cpus = spent_ns / 1e9 / runs_s if spent_ns is not None and runs_s > 0 else None
    return Load(cpus=cpus, memory=memory, host=float(said["Load"]), host_cpus=int(said["CPUs"]))


def _counted(text: str) -> int | None:
    """``[not set]``, and 2^64 - 1 with older ones, is what systemd knows nothing of."""
    return int(text) if text.isdecimal() and int(text) != _NOT_SET else None


def _cpus(text: str) -> float | None:
    """``50000 100000`` microseconds of each period, or ``max 100000`` (cgroup-v2.rst, cpu.max)."""
    quota, _, period = text.partition(" ")
    return None if quota == "max" else int(quota) / int(period)


def _number(text: str) -> int | None:
    return None if text == "max" else int(text)


def _concerns(topology: Topology, host: Host) -> bool:
    return topology.cluster.ollama is not None and Role.OLLAMA in host.roles


OLLAMA = Domain("ollama", _probes, _read, _concerns)


def drop_in(topology: Topology, host: Host) -> tuple[str, str]:
    """The drop-in, and its mark."""
    bare = _rendered(topology, host, "")
    mark = mark_of(bare)
    return _rendered(topology, host, mark), mark


def _rendered(topology: Topology, host: Host, mark: str) -> str:
    ollama = _ollama_of(topology)
    return render(
        "ollama-drop-in",
        interface=topology.cluster.wireguard.interface,
        address=host.wireguard.address,
        port=ollama.port,
        origins=",".join(ollama.origins),
        allowed=[(name, topology.host(name).wireguard.address) for name in ollama.allow if name != host.name],
        percent=round(ollama.cpus * 100),
        bytes=_memory(ollama),
        mark=mark,
    )


def _memory(ollama: Ollama) -> int:
    return int(ollama.memory_gib * 2**30)


def plan_corner(topology: Topology, observed: Observed) -> Plan:
    """Write the drop-in where there is an Ollama, and let it run with it."""
    plan = {}
    for host, state in observed.seen(OLLAMA).items():
        text, mark = drop_in(topology, topology.host(host))
        file = WriteFile(path=DROP_IN, content=text, seen=state.drop_in)
        plan[host] = plan_service(state.service, [file], mark) if state.installed else []
    return filled(plan)


def check_ollama(topology: Topology, observed: Observed, *, holders: Holders) -> list[Finding]:
    """Ollama is there, runs with our settings, answers in the mesh, and the kernel holds it to its limits."""
    if topology.cluster.ollama is None:
        return []
    found = unseen(observed, OLLAMA, Cause.APPLICATION)
    for host, state in observed.seen(OLLAMA).items():
        faults = list(_faults(topology, host, state, holders(topology, observed, host, topology.cluster.ollama.port)))
        found += faults or _loose(topology, topology.host(host), state.limits)
    return found


def _faults(topology: Topology, host: str, state: OllamaState, held_by: Sequence[str] | None) -> Iterator[Finding]:
    text, mark = drop_in(topology, topology.host(host))
    address, port = topology.host(host).wireguard.address, _ollama_of(topology).port
    if not state.installed:
        evidence = "there is no ollama.service"
        advice = f"Install it by hand, with its checksum (docs/services.md), then: {MEND.removesuffix(' mends it')}"
        yield _finding(host, "Ollama is not installed", evidence, advice)
    elif state.drop_in.content != text:
        yield _finding(host, "Ollama is not set up as planned", DROP_IN, MEND)
    elif not state.service.unit.is_active:
        yield _finding(host, "Ollama does not run", str(state.service), f"On {host}: journalctl -u {UNIT} -n 20")
    elif state.service.mark != mark:
        yield _finding(host, "Ollama runs with older settings than those that are there", DROP_IN, MEND)
    elif held_by == [] or not state.version:
        evidence = f"no version from http://{address}:{port}; there listens: {', '.join(held_by or ()) or 'nobody'}"
        advice = f"On {host}: systemctl cat {UNIT}: does a later drop-in set OLLAMA_HOST? journalctl -u {UNIT} -n 20"
        yield _finding(host, "Ollama does not answer in the mesh", evidence, advice)
    if state.installed and not state.service.unit.is_enabled:
        yield _finding(host, "Ollama does not start at boot", state.service.unit.enabled or "not enabled", MEND)


def _loose(topology: Topology, host: Host, limits: Limits) -> list[Finding]:
    """The limits that the kernel does not hold it to."""
    ollama = _ollama_of(topology)
    blind = not limits.counts_memory
    wanted = {
        "CPUs": _near(limits.cpus, ollama.cpus, 0.01 * ollama.cpus),
        "memory": blind or _near(limits.memory, _memory(ollama), _PAGE),
        "swap": blind or limits.swap == 0,
        "who may talk to it": limits.allow == allowed(topology, host) and limits.deny >= EVERYBODY,
    }
    first = [_blind(host.name)] if blind else []
    if all(wanted.values()):
        return first
    evidence = f"not held to: {', '.join(name for name, fine in wanted.items() if not fine)}; the kernel has {limits}"
    advice = f"On {host.name}: systemctl cat {UNIT}: does a later drop-in undo {DROP_IN}? {MEND}"
    return [*first, _finding(host.name, "Ollama is not held to its limits", evidence, advice)]


def _blind(host: str) -> Finding:
    """Raspberry Pi OS starts so: its firmware gives the kernel ``cgroup_disable=memory``."""
    evidence = "memory is not in /sys/fs/cgroup/cgroup.controllers: this kernel started without that control group"
    advice = (
        f"On {host}: add cgroup_enable=memory cgroup_memory=1 to the one line of /boot/firmware/cmdline.txt (older "
        "Raspberry Pi OS: /boot/cmdline.txt; with GRUB: GRUB_CMDLINE_LINUX), then reboot"
    )
    return replace(_finding(host, "the kernel holds nobody to a limit of memory", evidence, advice), lasting=True)


def allowed(topology: Topology, host: Host) -> frozenset[str]:
    """The networks that may talk to it, as systemd shows them."""
    names = {host.name, *_ollama_of(topology).allow}
    return LOCALHOST | {f"{topology.host(name).wireguard.address}/32" for name in names}


def _near(seen: float | None, wanted: float, within: float) -> bool:
    return seen is not None and abs(seen - wanted) <= within


def _finding(host: str, fault: str, evidence: str, advice: str) -> Finding:
    return Finding(cause=Cause.APPLICATION, host=host, fault=fault, evidence=evidence, advice=advice)
