"""One sweep of all hosts through Dockyard, as a process of its own, for `sweep.py`. Argument: a farm's folder."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from nornir.core.task import Result, Task
from nornir.plugins.runners import ThreadedRunner

from dockyard.cluster import open_cluster
from dockyard.remote import Command, execs, run


def sweep(task: Task, commands: list[Command]) -> Result:
    """Nornir task: nine commands in one exec; ``result`` is how many characters came back."""
    outputs = run(task, commands)
    assert outputs["8"].exit_code == 3
    assert outputs["8"].stderr == "not running\n"
    return Result(host=task.host, result=sum(len(outputs.text(f"{number}")) for number in range(8)))


def main(folder: Path) -> None:
    argvs = [("cat", str(folder / f"output{number}")) for number in range(8)]
    commands = [Command(f"{number}", argv) for number, argv in enumerate(argvs)]
    commands.append(Command("8", ("sh", "-c", "echo not running >&2; exit 3")))
    with open_cluster(str(folder / "inventory")) as (nornir, topology):
        answers = nornir.with_runner(ThreadedRunner(num_workers=len(topology.hosts))).run(task=sweep, commands=commands)
    expected = sum((folder / f"output{number}").stat().st_size for number in range(8))
    wrong = [host for host, answer in answers.items() if answer[0].result != expected]
    print(f"{len(answers) - len(wrong)} hosts exact, {sum(execs.values()) / len(answers):g} execs a host")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
