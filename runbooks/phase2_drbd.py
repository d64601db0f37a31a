"""Phase 2: two copies of the data, one writer.

Replicates one device from the host with the role drbd-primary to the one with drbd-secondary, asynchronously
(protocol A) and inside the mesh; with DRBD 9 the arbitrator is a diskless tie-breaker. Only the writer mounts, and
only when that is safe: at boot a replica waits until it is named as the writer and sees the other one UpToDate.

Needs: a healthy phase 1 (python runbooks/health.py); cluster.drbd and the disks in the inventory.
May destroy: nothing by itself. Metadata and file system are made only on devices without any signature; what carries
one must be named (--destroy HOST:DEVICE). The first copy goes from the writer to the other replica.
Way back: `systemctl disable --now dockyard-storage dockyard-drbd` on both replicas; with external metadata the data
lies on the disk as before. Before anything writes there without DRBD: `drbdadm wipe-md RESOURCE` on both, as DRBD would
take the two copies for equal for ever after.
Cut off in the middle: run it again.
"""

from functools import partial

from dockyard.caller import this_run
from dockyard.cli import main
from dockyard.observe import Domains
from dockyard.steps import Converge, Gate, Step, Wait
from tasks import drbd, hosts_file, machine, wireguard

SEES: Domains = [drbd.DRBD, drbd.WRITER]
ON = drbd.ROLES

FIRST_LOOK: Domains = [machine.MACHINE, wireguard.WIREGUARD, wireguard.REACH, hosts_file.NAMES]
"""What the gates see: one look at every host serves them all."""

STEPS: list[Step] = [
    Gate("Clocks, disks and tools are in order", machine.check_machine, FIRST_LOOK),
    Gate("The mesh carries full packets", wireguard.check_mesh, FIRST_LOOK, stale_s=30),
    Gate("Names mean the same everywhere", hosts_file.check_names, FIRST_LOOK, stale_s=30),
    Converge("Install DRBD's tools", drbd.plan_tools, [drbd.TOOLS], on=ON),
    Converge("Make the secret by which the replicas know each other", drbd.plan_secret, SEES, on=ON),
    Converge("Share the secret", drbd.plan_share_secret, [*SEES, drbd.SECRET], on=ON, together=True),
    Converge("Write the resource file", drbd.plan_config, SEES, on=ON, together=True),
    Converge("Name the first writer", partial(drbd.plan_record, since=this_run()), SEES, on=ON),
    Converge("Tell the replicas who may write", drbd.plan_copies, SEES, on=ON, together=True),
    Converge("Write what happens at boot", drbd.plan_units, SEES, on=ON),
    Converge("Make the mount point, closed while nothing is mounted", drbd.plan_mount_point, SEES, on=ON),
    Converge("Look whether the disks are empty", drbd.plan_proof, SEES, on=ON),
    Converge("Create DRBD's metadata", drbd.plan_metadata, SEES, on=ON),
    Converge("Bring the resource up, nobody is promoted", drbd.plan_up, SEES, on=ON),
    Wait("The replicas are connected", drbd.check_connected, SEES, timeout_s=120, on=ON),
    Converge("Make the first copy", drbd.plan_first_sync, SEES, on=ON, together=True),
    Converge("Promote the writer for the first time", drbd.plan_promotion, SEES, on=ON),
    Converge("Make the file system", drbd.plan_file_system, SEES, on=ON),
    Converge("Mount it on the writer, now and at boot", drbd.plan_storage, SEES, on=ON),
    Converge("Compare both copies every month", drbd.plan_verify, [*SEES, drbd.VERIFY], on=ON),
    Wait("The writer has it mounted, and the replicas are in sync", drbd.check_drbd, SEES, timeout_s=7 * 86400, on=ON),
]

if __name__ == "__main__":
    main(__doc__, STEPS)
