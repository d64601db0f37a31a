"""Phase 1: a plain cluster. Mesh, names, DNS, K3s with OpenCloud, Ollama in its corner, monitoring, and nothing else.

Builds a full WireGuard mesh (keys made on the hosts, preshared keys per pair), brings it up without dropping what runs,
writes all names into a managed block of /etc/hosts, and proves every direction by traffic. Then what the inventory asks
for: with cluster.dns a host answers for the names by DNS; with cluster.k3s K3s of a pinned and verified release, inside
the mesh only, with its volumes on one host, and OpenCloud; with cluster.ollama Ollama is held to its limits; with the
role monitoring the steps of monitoring.py. Refused where DRBD runs that the inventory does not know, or Pacemaker.

Needs: ssh to every host with a pinned host key (runbooks/trust.py), root or sudo there, Debian's package sources.
May destroy: nothing. Keys and volumes that are there are kept; the rest of /etc/hosts stays byte for byte.
Way back: `systemctl disable --now wg-quick@wg0` on each host, and remove the managed block from /etc/hosts; on the DNS
host `systemctl disable --now dockyard-dns`, for Ollama remove
/etc/systemd/system/ollama.service.d/zz-dockyard.conf and restart it; for K3s docs/k3s.md (All of K3s
goes), for the monitoring monitoring.py.
Cut off in the middle: run it again.
"""

from collections.abc import Mapping
from functools import partial

from dockyard.cli import main
from dockyard.observe import Domains
from dockyard.steps import Converge, Gate, Step, Wait
from dockyard.topology import Role, Topology
from runbooks import monitoring
from tasks import bounds, dns, hosts_file, k3s, machine, ollama, opencloud, wireguard

ON_K3S = (Role.K3S_SERVER, Role.K3S_WORKER)
K3S: Domains = [k3s.K3S]
API: Domains = [k3s.NODES, k3s.OBJECTS]
SERVER = (Role.K3S_SERVER,)
CONVERGE = partial(Converge, sees=K3S, on=ON_K3S, stale_s=30.0)
"""Steps of K3s for which it is enough what the step before has seen."""

OPENCLOUD = opencloud.at(
    opencloud.Place(
        storage_class=k3s.STORAGE_CLASS,
        size=k3s.CLAIMED,
        label=k3s.STORAGE_LABEL,
        here=k3s.HERE,
        marker=k3s.MARKER,
        labels=k3s.MANAGED,
    )
)


def names_for_pods(topology: Topology, _carrier: str) -> Mapping[str, str]:
    """Where there is a DNS server, K3s' own asks it for the names of the mesh."""
    return {"the names of the mesh for pods": dns.coredns_custom(topology, k3s.MANAGED)} if topology.cluster.dns else {}


MANIFESTS: list[k3s.Manifests] = [names_for_pods, k3s.manifests, OPENCLOUD]
"""What is applied, in this order."""

WITHIN_MESH = partial(Converge, sees=[wireguard.WIREGUARD], stale_s=30.0)
"""Steps of WireGuard for which it is enough what the step before has seen."""

FIRST_LOOK: Domains = [machine.MACHINE, bounds.BOUNDS]
"""What the first steps see: one look at every host serves them all."""

MESH: list[Step] = [
    Converge("Install the tools that are missing", machine.plan_tools, FIRST_LOOK, each=True),
    Gate("Clocks, disks and tools are in order", machine.check_machine, FIRST_LOOK, stale_s=30),
    Gate("No DRBD in productive use, no Pacemaker", bounds.check_plain, FIRST_LOOK, stale_s=30),
    Gate("Ollama and libvirt are in their corner", bounds.check_apart, FIRST_LOOK, stale_s=60),
    Wait("No key rotation is undecided", wireguard.check_way_back, [wireguard.WIREGUARD], timeout_s=240),
    WITHIN_MESH("Give every host a private key of its own", wireguard.plan_keys, each=True),
    WITHIN_MESH("Give every pair a preshared key", wireguard.plan_preshared_keys, together=True),
    WITHIN_MESH("Write the interface files", wireguard.plan_interface),
    WITHIN_MESH("Bring the interfaces in line, tunnels stay", wireguard.plan_running),
    Converge("Write the names into /etc/hosts", hosts_file.plan_hosts_file, [hosts_file.NAMES], each=True),
    Wait(
        "Every direction of the mesh carries full packets",
        wireguard.check_mesh,
        [wireguard.WIREGUARD, wireguard.REACH],
        timeout_s=120,
    ),
    Gate("Every name means the same on every host", hosts_file.check_names, [hosts_file.NAMES], stale_s=60),
]

DNS: list[Step] = [
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
        stale_s=30,
    ),
]

KUBERNETES: list[Step] = [
    Gate("No K3s of somebody else is there", k3s.check_strangers, K3S, on=ON_K3S),
    CONVERGE("Install K3s, verified", k3s.plan_binary),
    CONVERGE("Write K3s' options and units", k3s.plan_files, each=True),
    CONVERGE("Start the control plane", k3s.plan_server),
    Wait("The API answers", k3s.check_api, [k3s.NODES], timeout_s=300, on=SERVER),
    Gate("A control plane on a new disk is put back first", k3s.check_put_back, [k3s.K3S, k3s.NODES], on=ON_K3S),
    Converge("Forget the node of a worker that was installed anew", k3s.plan_forget, [k3s.K3S, k3s.NODES], on=ON_K3S),
    Converge("Bring the token to the workers", k3s.plan_token, [k3s.K3S, k3s.TOKEN], on=ON_K3S, together=True),
    CONVERGE("Start the workers", k3s.plan_workers, each=True),
    Wait("Every node has joined and is ready", k3s.check_joined, [k3s.NODES], timeout_s=300, on=SERVER),
    CONVERGE("Mark who carries the volumes", k3s.plan_marks, sees=API, on=SERVER),
    Converge("Make the volumes, each once", k3s.plan_volumes, [*K3S, *API], on=ON_K3S),
    CONVERGE("Give pods the names", partial(k3s.plan_apply, manifests=names_for_pods), sees=API, on=SERVER),
    CONVERGE(
        "Apply the storage class and the volumes", partial(k3s.plan_apply, manifests=k3s.manifests), sees=API, on=SERVER
    ),
    Converge("Make OpenCloud's secret, once", opencloud.plan_secret, [opencloud.SECRET], on=SERVER),
    CONVERGE("Apply OpenCloud", partial(k3s.plan_apply, manifests=OPENCLOUD), sees=API, on=SERVER),
    Wait("OpenCloud answers", opencloud.check_opencloud, [opencloud.OPENCLOUD], timeout_s=900, on=ON_K3S),
]

OLLAMA: list[Step] = [
    Converge("Hold Ollama to its corner", ollama.plan_corner, [ollama.OLLAMA], on=[Role.OLLAMA], each=True),
    Wait(
        "Ollama answers in the mesh, within its limits",
        partial(ollama.check_ollama, holders=machine.holders),
        [ollama.OLLAMA, machine.LISTENING],
        timeout_s=60,
        on=[Role.OLLAMA],
        stale_s=30,
    ),
]

STEPS: list[Step] = [
    *MESH,
    *DNS,
    *KUBERNETES,
    *OLLAMA,
    *monitoring.WATCHING,
    Gate("Nothing else listens on public addresses", machine.check_exposure, [machine.LISTENING]),
    *monitoring.OPTIONAL,
    Gate("What came last is in the mesh only", machine.check_exposure, [machine.LISTENING], on=[Role.MONITORING]),
]

if __name__ == "__main__":
    main(__doc__, STEPS)
