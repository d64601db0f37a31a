"""The QEMU command line of a machine, as data."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from lab.image import Image
from lab.machines import MachineSpec

PROGRAM = "qemu-system-x86_64"
GUEST_MANAGEMENT_ADDRESS = "10.0.2.15"
_KERNEL_ARGUMENTS = (
    "root=/dev/vda rw console=ttyS0 net.ifnames=0 quiet loglevel=4 mitigations=off audit=0 apparmor=0 selinux=0"
    " random.trust_cpu=on 8250.nr_uarts=1 rcupdate.rcu_expedited=1 cryptomgr.notests no_timer_check"
)


class Accel(StrEnum):
    """How guests run: on the processor's own virtualisation, or emulated."""

    KVM = "kvm"
    TCG = "tcg"


class Memory(StrEnum):
    """Where a guest's memory lives.

    PLAIN: anonymous memory, for an ordinary boot.
    CAPTURE: a file that is written through, which becomes the snapshot's memory.
    RESTORE: the same file mapped copy-on-write: pages are read when the guest first touches them.
    """

    PLAIN = "plain"
    CAPTURE = "capture"
    RESTORE = "restore"


@dataclass(frozen=True, slots=True)
class Disks:
    """qcow2 files that a machine writes to; `data` is None on machines without a data disk."""

    root: Path
    data: Path | None


@dataclass(frozen=True, slots=True)
class Launch:
    """One start of one machine. Sockets and console live in `folder`, which is also QEMU's working directory.

    With the name of a `checkpoint` the machine does not boot: it waits there, paused, for `Guest.go_on`.
    """

    spec: MachineSpec
    image: Image
    accel: Accel
    folder: Path
    disks: Disks
    seed: Path
    memory: Memory
    memory_file: Path | None = None
    checkpoint: str = ""


def accel_arguments(accel: Accel) -> list[str]:
    """`-accel` and `-cpu`; the translation buffer of 1 GiB that QEMU takes by default is too much for five guests."""
    if accel is Accel.KVM:
        return ["-accel", "kvm", "-cpu", "host"]
    return ["-accel", "tcg,thread=multi,tb-size=256", "-cpu", "max"]


def qemu_arguments(launch: Launch) -> list[str]:
    """Return argv; socket paths are relative to `launch.folder`, so that their limit of 107 bytes is never met."""
    spec = launch.spec
    return [
        *(PROGRAM, "-name", spec.name, "-nodefaults", "-no-user-config", "-display", "none"),
        *("-machine", "pc,memory-backend=ram,vmport=off,usb=off,i8042=off,smbus=off", *accel_arguments(launch.accel)),
        *("-smp", "1", "-m", f"{spec.memory_mib}M", "-object", _memory_backend(launch)),
        *("-kernel", str(launch.image.kernel), "-initrd", str(launch.image.initrd), "-append", _KERNEL_ARGUMENTS),
        *("-fw_cfg", f"name=opt/dockyard/seed,file={launch.seed}"),
        *("-rtc", "base=utc,clock=host", "-device", "vmgenid,guid=auto", "-device", "virtio-rng-pci"),
        *_disk("root", launch.disks.root),
        *(_disk("data", launch.disks.data) if launch.disks.data else ()),
        *_networks(spec),
        *("-device", "virtio-serial-pci", "-chardev", "socket,id=clock,path=clock.sock,server=on,wait=off"),
        *("-device", "virtserialport,chardev=clock,name=dockyard.clock"),
        *(("-device", "i6300esb", "-action", "watchdog=reset") if spec.watchdog else ()),
        *("-chardev", "file,id=console,path=console.log,append=on", "-serial", "chardev:console"),
        *("-qmp", "unix:qmp.sock,server=on,wait=off"),
        *(("-incoming", "defer") if launch.memory is Memory.RESTORE else ()),
        *(("-loadvm", launch.checkpoint, "-S") if launch.checkpoint else ()),
    ]


def _memory_backend(launch: Launch) -> str:
    size = f"size={launch.spec.memory_mib}M"
    if launch.memory is Memory.PLAIN:
        return f"memory-backend-ram,id=ram,{size}"
    share = "on" if launch.memory is Memory.CAPTURE else "off"
    return f"memory-backend-file,id=ram,{size},mem-path={launch.memory_file},share={share}"


def _disk(name: str, path: Path) -> list[str]:
    drive = f"file={path},if=none,id={name},format=qcow2,cache=writeback,discard=unmap,detect-zeroes=unmap"
    return ["-drive", drive, "-device", f"virtio-blk-pci,drive={name},serial={name}"]


def _networks(spec: MachineSpec) -> list[str]:
    forward = f"hostfwd=tcp:127.0.0.1:{spec.ssh_port}-{GUEST_MANAGEMENT_ADDRESS}:22"
    return [
        *("-netdev", f"user,id=management,restrict=on,ipv6=off,{forward}"),
        *("-device", f"virtio-net-pci,netdev=management,mac={spec.management_mac},romfile="),
        *("-netdev", "stream,id=cluster,server=off,addr.type=unix,addr.path=wire.sock"),
        *("-device", f"virtio-net-pci,netdev=cluster,mac={spec.cluster_mac},romfile="),
    ]
