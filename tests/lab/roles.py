"""Both replicas' roles, sampled on the machines themselves while something else goes on."""

from __future__ import annotations

import shlex
import subprocess
import threading
from dataclasses import dataclass, field
from itertools import pairwise
from types import TracebackType
from typing import Self

from lab import Lab
from lab.ssh import ssh_arguments
from tests.lab.numbered import PAIR

EVERY_S = 0.1
_SAMPLER = f"""
import re, time
while True:
    began = time.time()
    with open("/proc/drbd") as file:
        found = re.search(r"ro:(\\w+)/(\\w+)", file.read())
    print(f"{{time.time():.3f}}", *(found.groups() if found else ("none", "none")), flush=True)
    time.sleep(max(0, began + {EVERY_S} - time.time()))
"""


@dataclass(frozen=True, slots=True, order=True)
class Sample:
    """What a host said of itself and of the other side; ``at`` is in seconds of the machine that runs the lab."""

    at: float
    host: str
    own: str
    peer: str


@dataclass(slots=True)
class Roles:
    """A context manager: one ssh a replica, on the way of management, prints its role every `EVERY_S` seconds."""

    lab: Lab
    samples: list[Sample] = field(default_factory=list)
    _processes: list[subprocess.Popen[str]] = field(default_factory=list)
    _threads: list[threading.Thread] = field(default_factory=list)

    def __enter__(self) -> Self:
        offsets = self.lab.clocks()
        for host in PAIR:
            argv = [*ssh_arguments(self.lab[host].spec, self.lab.paths), "--", f"python3 -c {shlex.quote(_SAMPLER)}"]
            process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
            first = threading.Event()
            thread = threading.Thread(target=self._read, args=(host, process, offsets[host], first))
            thread.start()
            self._processes.append(process)
            self._threads.append(thread)
            assert first.wait(30), f"{host} says nothing"
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in self._processes:
            process.kill()
            process.wait()
        for thread in self._threads:
            thread.join()

    def _read(self, host: str, process: subprocess.Popen[str], offset_s: float, first: threading.Event) -> None:
        assert process.stdout
        with process.stdout as lines:
            for line in lines:
                if not line.endswith("\n"):
                    return  # torn by the end
                at, own, peer = line.split()
                self.samples.append(Sample(float(at) - offset_s, host, own, peer))
                first.set()

    def two_primaries(self) -> list[Sample]:
        """The samples after which both replicas were Primary, by the last word of each, or by the word of one alone."""
        last = dict.fromkeys(PAIR, "")
        found = []
        for sample in sorted(self.samples):
            last[sample.host] = sample.own
            if set(last.values()) == {"Primary"} or (sample.own, sample.peer) == ("Primary", "Primary"):
                found.append(sample)
        return found

    def changes(self, host: str) -> list[str]:
        """The roles that a host went through, in order."""
        own = [sample.own for sample in sorted(self.samples) if sample.host == host]
        return [role for number, role in enumerate(own) if not number or role != own[number - 1]]

    def longest_gap_s(self) -> float:
        """The longest time for which a host was not looked at."""
        times = {host: [sample.at for sample in sorted(self.samples) if sample.host == host] for host in PAIR}
        return max(later - earlier for at in times.values() for earlier, later in pairwise(at))
