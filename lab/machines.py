"""The five machines of the lab: the one table that everything else in `lab` is derived from."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Interface

from lab.errors import LabError


@dataclass(frozen=True, slots=True)
class MachineSpec:
    """What a machine of the lab is made of.

    `number` gives the host part of its cluster address, its MAC addresses and its ssh port.
    `behind_nat`: unsolicited traffic from other sites is dropped on its cluster interface.
    `data_disk_mib`: size of a second disk without any signature, 0 for none.
    """

    name: str
    site: str
    number: int
    memory_mib: int
    data_disk_mib: int = 0
    watchdog: bool = False
    behind_nat: bool = False
    sudo_password: bool = False

    @property
    def ssh_port(self) -> int:
        """Port on 127.0.0.1 that leads to the machine's sshd."""
        return 22100 + self.number

    @property
    def cluster_address(self) -> IPv4Interface:
        """Address of the machine on the cluster segment."""
        return IPv4Interface(f"10.99.0.{10 + self.number}/24")

    @property
    def management_mac(self) -> str:
        """MAC address of eth0 (user networking, ssh from the host)."""
        return f"52:54:00:00:01:{self.number:02x}"

    @property
    def cluster_mac(self) -> str:
        """MAC address of eth1 (the cluster segment)."""
        return f"52:54:00:00:02:{self.number:02x}"


MACHINES: tuple[MachineSpec, ...] = (
    MachineSpec("dock-dash", "vps", 1, memory_mib=512),
    MachineSpec("dock-prod", "home", 2, memory_mib=640, data_disk_mib=512, watchdog=True),
    MachineSpec("dock-mirror", "dc", 3, memory_mib=640, data_disk_mib=512, watchdog=True),
    MachineSpec("dock-load", "dc", 4, memory_mib=640, watchdog=True),
    MachineSpec("dock-edge", "home", 5, memory_mib=640, behind_nat=True, sudo_password=True),
)

SITES: tuple[str, ...] = tuple(dict.fromkeys(spec.site for spec in MACHINES))


def spec_of(name: str) -> MachineSpec:
    """Return the machine called `name`; raises LabError with the names that exist."""
    for spec in MACHINES:
        if spec.name == name:
            return spec
    raise LabError(
        f"there is no machine {name!r} in the lab", advice="one of: " + ", ".join(spec.name for spec in MACHINES)
    )


def named_by(place: str) -> tuple[str, ...]:
    """Machines that `place`, a machine's name or a site, stands for; raises LabError when it is neither."""
    if place in SITES:
        return tuple(spec.name for spec in MACHINES if spec.site == place)
    if any(spec.name == place for spec in MACHINES):
        return (place,)
    known = [*SITES, *(spec.name for spec in MACHINES)]
    raise LabError(f"{place!r} is neither a machine nor a site of the lab", advice="one of: " + ", ".join(known))
