"""Phase 1: mesh and names on all hosts, DNS on one, monitoring, Ollama in its corner, and nothing that does not belong.

Builds a full WireGuard mesh (keys made on the hosts, preshared keys per pair), brings it up without dropping what runs,
writes all names into a managed block of /etc/hosts, and proves every direction by traffic. With cluster.dns a host
answers for the names by DNS, with cluster.ollama Ollama is held to its limits. Then the steps of monitoring.py: an
exporter on every host, Prometheus and Alertmanager on the one that watches. Refused where DRBD runs that the inventory
does not know, or Pacemaker.

Needs: ssh to every host with a pinned host key (runbooks/trust.py), root or sudo there, Debian's package sources.
May destroy: nothing. Keys that are there are kept; the rest of /etc/hosts stays byte for byte.
Way back: `systemctl disable --now wg-quick@wg0` on each host, and remove the managed block from /etc/hosts; on the DNS
host `systemctl disable --now dockyard-dns`, for Ollama `systemctl revert ollama`; for the monitoring see monitoring.py.
Cut off in the middle: run it again.
"""

from functools import partial

from dockyard.cli import main
from dockyard.runbook import Converge, Gate, Step, Wait
from dockyard.topology import Role
from runbooks import monitoring
from tasks import bounds, dns, hosts_file, machine, ollama, wireguard

STEPS: list[Step] = [
    Converge("Install the tools that are missing", machine.plan_tools, [machine.MACHINE], each=True),
    Gate("Clocks, disks and tools are in order", machine.check_machine, [machine.MACHINE]),
    Gate("No DRBD in productive use, no Pacemaker", bounds.check_plain, [bounds.BOUNDS]),
    Gate("Ollama, libvirt and K3s are where they belong", bounds.check_apart, [bounds.BOUNDS], stale_s=60),
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
    Converge("Install the DNS server", dns.plan_tools, [dns.DNS], each=True),
    Gate(
        "Nobody else holds port 53 there",
        partial(dns.check_port, holders=machine.holders),
        [dns.DNS, machine.LISTENING],
    ),
    Converge("Answer for the names by DNS, inside the mesh", dns.plan_server, [dns.DNS], each=True),
    Wait(
        "Every host hears every name from it",
        partial(dns.check_dns, holders=machine.holders),
        [dns.DNS, dns.ANSWERS, machine.LISTENING],
        timeout_s=60,
    ),
    Converge("Hold Ollama to its corner", ollama.plan_corner, [ollama.OLLAMA], on=[Role.OLLAMA], each=True),
    Wait(
        "Ollama answers in the mesh, within its limits",
        partial(ollama.check_ollama, holders=machine.holders),
        [ollama.OLLAMA, machine.LISTENING],
        timeout_s=60,
        on=[Role.OLLAMA],
    ),
    *monitoring.STEPS,
    Gate("Nothing else listens on public addresses", machine.check_exposure, [machine.LISTENING], stale_s=60),
]

if __name__ == "__main__":
    main(__doc__, STEPS)
