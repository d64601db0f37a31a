"""One pod on its node: its init containers as shell scripts, then a process that serves the folder of its volume.

The process outlives the agent, as containers outlive K3s (KillMode=process); a new agent finds it again by its notes.
"""

from __future__ import annotations

import json
import os
import shlex
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

RETRY_S = float(os.environ.get("STANDIN_RETRY_S", "5"))
SCRIPT_S = 60.0
_ISOLATED = """\
set -e
mount -t tmpfs -o mode=0755 tmpfs "$root"
for name in usr bin sbin lib lib64 etc proc dev; do
  if [ -L "/$name" ]; then cp -P "/$name" "$root/"
  elif [ -d "/$name" ]; then mkdir "$root/$name"; mount --rbind "/$name" "$root/$name"; fi
done
{mounts}
exec chroot --userspec={user} --groups={group} "$root" {command}"""

Order = dict[str, Any]
State = dict[str, Any]


@dataclass
class Pod:
    """A pod that this node was told to run. ``folder`` keeps the notes of all pods."""

    order: Order
    folder: Path
    states: dict[str, State] = field(default_factory=dict)
    restarts: int = 0
    tried_at: float = -RETRY_S
    process: int = 0

    @property
    def name(self) -> str:
        """Its name in the cluster."""
        return str(self.order["pod"]["metadata"]["name"])

    @property
    def leaving(self) -> bool:
        """Whether it was asked to end."""
        return "deletionTimestamp" in self.order["pod"]["metadata"]

    @property
    def _notes(self) -> Path:
        return self.folder / f"{self.name}.json"

    def step(self) -> bool:
        """Do what is next; returns False when the pod has ended for good."""
        self._find_process()
        if self.leaving:
            return self._end()
        if not self.process and time.monotonic() - self.tried_at >= RETRY_S:
            self.tried_at = time.monotonic()
            self._start()
        return True

    def _find_process(self) -> None:
        if not self.process and self._notes.exists():
            self.process = int(json.loads(self._notes.read_text())["process"])
        if self.process and not self._is_alive():
            self.process = 0
            self.restarts += 1

    def _is_alive(self) -> bool:
        try:  # a child that ended is a zombie until somebody asks
            if os.waitpid(self.process, os.WNOHANG)[0] == self.process:
                return False
        except ChildProcessError:
            pass
        try:
            return self.name.encode() in Path(f"/proc/{self.process}/cmdline").read_bytes()
        except OSError:
            return False

    def _end(self) -> bool:
        if self.process:
            os.kill(self.process, signal.SIGTERM)
            return True
        self._notes.unlink(missing_ok=True)
        return False

    def _start(self) -> None:
        spec = self.order["pod"]["spec"]
        main = spec["containers"][0]["name"]
        missing = [path for path in self.order["paths"].values() if not Path(path).is_dir()]
        if missing:
            self._wait(main, "ContainerCreating", f'MountVolume failed: path "{missing[0]}" does not exist')
            return
        if self.order["missing_secrets"]:
            self._wait(main, "ContainerCreating", f'secret "{self.order["missing_secrets"][0]}" not found')
            return
        for container in spec.get("initContainers", ()):
            if not self._prepared(container):
                return
        self._serve(spec["containers"][0])

    def _wait(self, container: str, reason: str, message: str) -> None:
        self.states[container] = {"waiting": {"reason": reason, "message": message}}

    def _prepared(self, container: dict[str, Any]) -> bool:
        ran = subprocess.run(
            self._isolated(container), capture_output=True, text=True, timeout=SCRIPT_S, check=False, cwd="/"
        )
        reason = "Error" if ran.returncode else "Completed"
        message = (ran.stderr or ran.stdout).strip()[-2000:]
        ended = {"exitCode": ran.returncode, "reason": reason, "message": message}
        self.states[container["name"]] = {"terminated": ended}
        return ran.returncode == 0

    def _isolated(self, container: dict[str, Any]) -> list[str]:
        """The command of a container, with the host's programs, its volumes mounted, as its user."""
        context = self.order["pod"]["spec"].get("securityContext", {})
        mounts = [
            f'mkdir -p "$root"{shlex.quote(one["mountPath"])}; '
            f'mount --bind {shlex.quote(str(self._source(one)))} "$root"{shlex.quote(one["mountPath"])}'
            for one in container.get("volumeMounts", ())
            if one["name"] in self.order["paths"]
        ]
        script = _ISOLATED.format(
            mounts="\n".join(mounts),
            user=f"{context.get('runAsUser', 0)}:{context.get('runAsGroup', 0)}",
            group=context.get("fsGroup", 0),
            command=shlex.join([*container["command"], *container.get("args", ())]),
        )
        root = self.folder / "root"
        root.mkdir(exist_ok=True)
        return ["unshare", "--mount", "--propagation", "private", "env", f"root={root}", "sh", "-c", script]

    def _source(self, mount: dict[str, Any]) -> Path:
        path = Path(self.order["paths"][mount["name"]], mount.get("subPath", ""))
        path.mkdir(exist_ok=True)
        return path

    def _serve(self, container: dict[str, Any]) -> None:
        path = next(iter(self.order["paths"].values()), "/nowhere")
        host, port = self.listens
        program = [sys.executable, sys.argv[0]] if sys.argv[0] else [sys.executable]
        command = [*program, "standin-serve", path, host, str(port), self.name]
        with (self.folder / f"{self.name}.log").open("ab") as log:
            started = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        self.process = started.pid
        self._notes.write_text(json.dumps({"process": started.pid}))
        self.states[container["name"]] = {"running": {}}

    @property
    def listens(self) -> tuple[str, int]:
        """Where it is reached: the first port that it opens on its node."""
        for port in self.order["pod"]["spec"]["containers"][0].get("ports", ()):
            if "hostPort" in port:
                return port.get("hostIP", "0.0.0.0"), int(port["hostPort"])
        return "", 0

    def status(self) -> dict[str, Any]:
        """Its status as the API has it."""
        spec = self.order["pod"]["spec"]
        ready = bool(self.process) and answers(self.listens)
        main = spec["containers"][0]["name"]
        state = {"running": {}} if self.process else self.states.get(main, {"waiting": {"reason": "PodInitializing"}})
        return {
            "phase": "Running" if self.process else "Pending",
            "conditions": [{"type": "Ready", "status": "True" if ready else "False"}],
            "initContainerStatuses": [self._container(one["name"]) for one in spec.get("initContainers", ())],
            "containerStatuses": [{"name": main, "ready": ready, "restartCount": self.restarts, "state": state}],
        }

    def _container(self, name: str) -> dict[str, Any]:
        state = self.states.get(name, {})
        done = state.get("terminated", {}).get("exitCode") == 0 or bool(self.process)
        return {"name": name, "ready": done, "restartCount": 0, "state": {} if self.process else state}


def answers(address: tuple[str, int]) -> bool:
    """Whether something accepts connections there; a pod without a port counts as one that does."""
    if not address[1]:
        return True
    try:
        with socket.create_connection(address, timeout=2):
            return True
    except OSError:
        return False
