"""Record new samples from running machines: `python -m tests.parsers.record NAME [--inventory lab]`.

Every host is asked once, for all outputs that we read together with their machine-readable forms, so that both are of
one moment. Tools that a host does not have are left out. The facts of a new sample are those of its machine-readable
form (of the text, where there is none): read them before you commit, the readers are held to them from then on.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from nornir.core.task import Result, Task

from dockyard.cluster import open_cluster
from dockyard.errors import DockyardError, ParseError
from dockyard.remote import Command, Completed, run
from tasks.wireguard import state as wireguard
from tests.parsers.readers import Answer, Reader, all_readers
from tests.parsers.samples import MACHINE_FORMS, SAMPLES, Sample

DRBD = 'v=$(modinfo -F version drbd) && echo "drbd-$v"'
PACEMAKER = "pacemakerd --version | sed -n 's/^Pacemaker \\([0-9.]*[0-9]\\).*/pacemaker-\\1/p'"
WIREGUARD = "wg --version | sed -n 's/^wireguard-tools v\\([0-9.]*\\).*/wireguard-tools-\\1/p'"
COROSYNC = "corosync -v | sed -n 's/.*version .\\([0-9.]*\\).*/corosync-\\1/p'"
SBD = "dpkg-query -W -f '${Version}' sbd | sed -n 's/^\\([0-9.]*[0-9]\\).*/sbd-\\1/p'"
IPROUTE = "ip -V | sed -n 's/.*iproute2-\\([0-9.]*[0-9]\\).*/iproute2-\\1/p'"
CHRONY = "chronyc --version | sed -n 's/.*version \\([0-9.]*[0-9]\\).*/chrony-\\1/p'"
SYSTEMD = "systemctl --version | sed -n '1s/^systemd \\([0-9.]*[0-9]\\).*/systemd-\\1/p'"
K3S = "k3s kubectl version --client | sed -n 's/^Client Version: v\\([0-9.]*[0-9]\\).*/kubectl-\\1/p'"
DRBD_9 = "grep -q ^9 /sys/module/drbd/version"
DRBD_MACHINE = """\
case $(cat /sys/module/drbd/version) in
  9.*) drbdsetup status --json ;;
  *) drbdsetup events2 --now --statistics ;;
esac"""


@dataclass(frozen=True, slots=True)
class Recipe:
    """How one kind of sample is recorded: shell commands for version, text and machine-readable form ("" for none)."""

    template: str
    version: str
    text: str
    machine: str = ""
    ending: str = ""
    options: str = ""

    @property
    def key(self) -> str:
        return f"{self.template}{self.options}"


RECIPES = (
    Recipe("drbdadm_status", DRBD, "drbdadm status", DRBD_MACHINE, ".json|.dump"),
    Recipe(
        "drbdadm_status",
        DRBD,
        "drbdsetup status --verbose --statistics",
        DRBD_MACHINE,
        ".json|.dump",
        "+verbose+statistics",
    ),
    Recipe("drbdsetup_status_json", DRBD, f"{DRBD_9} || exit 127; drbdsetup status --json"),
    Recipe("drbdsetup_events2", DRBD, "drbdsetup events2 --now --statistics"),
    Recipe("proc_drbd", DRBD, "cat /proc/drbd"),
    Recipe("crm_mon", PACEMAKER, "crm_mon -1", "crm_mon --output-as=xml", ".xml", "+1"),
    Recipe("crm_mon", PACEMAKER, "crm_mon -1rfA", "crm_mon -rfA --output-as=xml", ".xml", "+1rfA"),
    Recipe("crm_mon", PACEMAKER, "crm_mon -1n", "crm_mon -n --output-as=xml", ".xml", "+n"),
    Recipe("wg_show", WIREGUARD, "wg show", wireguard._DUMP, ".dump"),  # the probe that hides the keys
    Recipe("wg_show_all_dump", WIREGUARD, wireguard._DUMP),
    Recipe("corosync_quorumtool", COROSYNC, "corosync-quorumtool -s"),
    Recipe("corosync_cfgtool", COROSYNC, "corosync-cfgtool -s"),
    Recipe(
        "sbd_list", SBD, '. /etc/default/sbd && [ -n "$SBD_DEVICE" ] && sbd -d "${SBD_DEVICE%%;*}" list || exit 127'
    ),
    Recipe("ss_listening", IPROUTE, "ss -H -ltnup"),
    Recipe("ip_address", IPROUTE, "ip -j address show"),
    Recipe("ip_link", IPROUTE, "ip -j link show"),
    Recipe("ip_route", IPROUTE, "ip -j route show"),
    Recipe("chronyc_tracking", CHRONY, "chronyc tracking"),
    Recipe("timedatectl_show", SYSTEMD, "timedatectl show"),
    Recipe("kubectl_get_nodes", K3S, "k3s kubectl get nodes -o wide", "k3s kubectl get nodes -o json", ".json"),
)


def commands() -> list[Command]:
    """All recipes as one batch. The clock comes before each text, as some say only ages."""
    return [
        Command(f"{recipe.key} {part}", ("sh", "-c", script))
        for recipe in RECIPES
        for part, script in (
            ("version", recipe.version),
            ("now", "date +%s"),
            ("text", recipe.text),
            ("machine", recipe.machine),
        )
        if script
    ]


def ask(task: Task) -> Result:
    """Nornir task; ``result`` is the `Outputs` of one host."""
    return Result(host=task.host, result=run(task, commands()))


def write(name: str, host: str, outputs: Mapping[str, Completed], folder: Path = SAMPLES) -> Iterator[str]:
    """Write the samples of one host, and say what became of each.

    A tool that is not there (127) or has an unknown version is left out. What is not understood is kept without facts,
    for the reader that has to learn it.
    """
    readers = {reader.template: reader for reader in all_readers()}
    for recipe in RECIPES:
        text, version = outputs[f"{recipe.key} text"], outputs[f"{recipe.key} version"].stdout.strip()
        if text.exit_code == 127 or not re.fullmatch(r"[a-z0-9-]+-\d[\w.]*", version):
            continue
        machine = outputs.get(f"{recipe.key} machine")
        stem = folder / recipe.template / f"{version}__{name}{recipe.options}__{host}"
        _write_parts(stem, recipe, text, machine)
        sample = Sample(stem.with_name(f"{stem.name}.txt"))
        try:
            yield f"{sample}{_write_facts(readers[recipe.template], sample, int(outputs[f'{recipe.key} now'].stdout))}"
        except ParseError as error:
            yield f"{sample}: NOT UNDERSTOOD: {error}"


def _write_parts(stem: Path, recipe: Recipe, text: Completed, machine: Completed | None) -> None:
    stem.parent.mkdir(parents=True, exist_ok=True)
    parts = {".txt": text.stdout, ".stderr": text.stderr, ".rc": f"{text.exit_code or ''}"}
    if machine and machine.exit_code == 0:
        first, _, second = recipe.ending.partition("|")
        parts[first if not second or machine.stdout.startswith("[") else second] = machine.stdout
    for ending, content in parts.items():
        if content or ending == ".txt":
            stem.with_name(stem.name + ending).write_bytes(content.encode("utf-8", "surrogateescape"))


def _write_facts(reader: Reader, sample: Sample, now: int) -> str:
    """Write the facts; returns what there is to say about it.

    A machine-readable form that does not agree with the text is removed: mostly it is of another moment.
    """
    path = sample.path.with_name(f"{sample.path.stem}.facts.json")
    if reader.seed:
        path.write_text(json.dumps(reader.seed(sample, now)), encoding="utf-8")
    state, machine = reader.read(Answer.of(sample)), sample.machine
    alone = machine is None
    if machine is not None:
        other = reader.machine_state(machine, sample)
        alone = any(seen(state) != seen(other) for seen in (reader.comparable, lambda one: reader.facts(one, sample)))
        state = state if alone else other
    path.write_text(json.dumps(reader.facts(state, sample), indent=1, sort_keys=True) + "\n", encoding="utf-8")
    if not alone or machine is None:
        return ""
    for ending in MACHINE_FORMS:
        sample.path.with_name(f"{sample.path.stem}{ending}").unlink(missing_ok=True)
    return ": the two forms differ, it changed in between or is misread; the text alone is kept"


def main() -> int:
    """Record from all hosts of an inventory, and say what was written and what could not be read."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("name", metavar="NAME", help="what state the machines are in: letters, digits, _ and -")
    options.add_argument("--inventory", metavar="WHERE", help="'lab', or a folder with hosts.yaml")
    arguments = options.parse_args()
    if not re.fullmatch(r"[\w-]+", arguments.name):
        options.error("NAME is part of file names: letters, digits, _ and - only")
    said: list[str] = []
    with open_cluster(arguments.inventory) as (nornir, _):
        for host, answer in nornir.run(task=ask, on_failed=True).items():
            if isinstance(answer.exception, DockyardError):
                print(f"{host}: {answer.exception}", file=sys.stderr)
                continue
            said += write(arguments.name, host, answer[0].result)
    print("\n".join(said))
    return 1 if any("NOT UNDERSTOOD" in line for line in said) else 0


if __name__ == "__main__":
    sys.exit(main())
