"""Phase 1: mesh, names and monitoring on all hosts.

Builds a full WireGuard mesh (keys made on the hosts, preshared keys per pair), brings it up without dropping what runs,
writes all names into a managed block of /etc/hosts, and proves every direction by traffic. Then the steps of
monitoring.py: an exporter on every host, Prometheus and Alertmanager on the one that watches.

Needs: ssh to every host with a pinned host key (runbooks/trust.py), root or sudo there, Debian's package sources.
May destroy: nothing. Keys that are there are kept; the rest of /etc/hosts stays byte for byte.
Way back: `systemctl disable --now wg-quick@wg0` on each host, and remove the managed block from /etc/hosts;
for the monitoring see monitoring.py.
Cut off in the middle: run it again.
"""

from dockyard.cli import main
from dockyard.runbook import Converge, Gate, Step, Wait
from runbooks import monitoring
from tasks import hosts_file, machine, wireguard

STEPS: list[Step] = [
    Converge("Install the tools that are missing", machine.plan_tools, [machine.MACHINE], each=True),
    Gate("Clocks, disks and tools are in order", machine.check_machine, [machine.MACHINE]),
    Wait("No key rotation is undecided", wireguard.check_way_back, [wireguard.WIREGUARD], timeout_s=240),
    Converge("Give every host a private key of its own", wireguard.plan_keys, [wireguard.WIREGUARD], each=True),
    Converge("Give every pair a preshared key", wireguard.plan_preshared_keys, [wireguard.WIREGUARD], together=True),
    Converge("Write the interface files", wireguard.plan_interface, [wireguard.WIREGUARD]),
    Converge("Bring the interfaces in line, tunnels stay", wireguard.plan_running, [wireguard.WIREGUARD]),
    Converge("Write the names into /etc/hosts", hosts_file.plan_hosts_file, [hosts_file.NAMES], each=True),
    Wait(
        "Every direction of the mesh carries full packets",
        wireguard.check_mesh,
        [wireguard.WIREGUARD, wireguard.REACH],
        timeout_s=120,
    ),
    Gate("Every name means the same on every host", hosts_file.check_names, [hosts_file.NAMES]),
    *monitoring.STEPS,
]

if __name__ == "__main__":
    main(__doc__, STEPS)
