"""Which QEMU there is, and which acceleration really carries a guest.

`/dev/kvm` can exist and still hang a stock guest (nested virtualisation), so the answer comes from booting one.
"""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

from lab.errors import LabError
from lab.image import Image
from lab.paths import LabPaths
from lab.qemu import PROGRAM, Accel, accel_arguments

PROBE_TIMEOUT_S = 20.0
OVERRIDE = "DOCKYARD_LAB_ACCEL"
_MARK = re.compile(r"LAB-PROBE [0-9a-f]{64}")
_INSTALL = (
    "Debian 13: sudo apt-get install qemu-system-x86 qemu-utils; "
    "Debian 12: sudo apt-get install -t bookworm-backports qemu-system-x86 qemu-utils"
)


def qemu_version() -> str:
    """Return QEMU's version; raises LabError when it is missing or one that crashes such guests (before 10)."""
    if not shutil.which(PROGRAM) or not shutil.which("qemu-img"):
        raise LabError("QEMU is not installed", advice=_INSTALL)
    text = subprocess.run([PROGRAM, "--version"], capture_output=True, text=True, check=True).stdout
    return accepted_version(text)


def accepted_version(text: str) -> str:
    """Return the version in the output of `--version`; raises LabError for one that the lab cannot use."""
    found = re.search(r"version (\d+)\.(\d+)\S*", text)
    if not found:
        raise LabError(f"{PROGRAM} --version says something unknown: {text[:80]!r}", advice=_INSTALL)
    version = found.group(0).removeprefix("version ")
    if int(found.group(1)) < 10:
        raise LabError(
            f"QEMU {version} is too old: 7.2 crashes these guests under emulation, 10 is known to work", advice=_INSTALL
        )
    return version


def processor() -> str:
    """Model name of the processor: snapshots hold its time-stamp counter's pace."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def choose_accel(image: Image, version: str, paths: LabPaths, say: Callable[[str], None]) -> Accel:
    """Return what to run guests with: DOCKYARD_LAB_ACCEL, else the verdict of a probe, which is remembered."""
    wanted = os.environ.get(OVERRIDE)
    if wanted:
        if wanted not in list(Accel):
            raise LabError(f"{OVERRIDE}={wanted} is not known", advice="use one of: " + ", ".join(Accel))
        return Accel(wanted)
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return Accel.TCG
    verdicts = paths.root / "acceleration.json"
    key = f"{platform.release()} {processor()} qemu-{version}"
    known = json.loads(verdicts.read_text()) if verdicts.exists() else {}
    if key not in known:
        say("/dev/kvm exists; booting a guest to see whether it works ...")
        known = {key: (Accel.KVM if boots(image, Accel.KVM) else Accel.TCG).value}
        verdicts.write_text(json.dumps(known))
        say("KVM works" if known[key] == Accel.KVM else "KVM does not carry a guest: using software emulation")
    return Accel(known[key])


def boots(image: Image, accel: Accel, *, timeout_s: float = PROBE_TIMEOUT_S) -> bool:
    """Say whether a guest on `accel` comes up, runs a program of the image, and powers off within the time limit."""
    with tempfile.TemporaryDirectory(prefix="dockyard-probe-") as folder:
        console = Path(folder) / "console.log"
        argv = [
            *(
                PROGRAM,
                "-nodefaults",
                "-no-user-config",
                "-display",
                "none",
                "-machine",
                "q35",
                *accel_arguments(accel),
                "-m",
                "256M",
            ),
            *("-kernel", str(image.kernel), "-initrd", str(image.initrd)),
            *("-append", "console=ttyS0 lab.probe panic=-1", "-no-reboot", "-serial", f"file:{console}"),
            *("-drive", f"file={image.disk},if=virtio,format=raw,snapshot=on"),
        ]
        try:
            subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, timeout=timeout_s, check=False)
        except subprocess.TimeoutExpired:
            return False
        return console.exists() and bool(_MARK.search(console.read_text(errors="replace")))
