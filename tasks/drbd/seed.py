"""The first copy by disk instead of by line: LINBIT's "truck based replication", with this cluster's own names.

Sources: DRBD User's Guide 9.0 and 8.4, "Using truck based replication"; drbdsetup(8), new-current-uuid.
"""

from __future__ import annotations

from dataclasses import dataclass

from tasks.drbd import places


@dataclass(frozen=True, slots=True, kw_only=True)
class Seed:
    """Names for the commands. ``primary_id`` and ``secondary_id`` are the node ids of DRBD 9 in the resource file."""

    resource: str
    minor: int
    primary: str
    secondary: str
    mount: str
    disk: str
    target_disk: str
    primary_id: int
    secondary_id: int
    metadata: str | None = None
    target_metadata: str | None = None


def procedure(seed: Seed) -> list[str]:
    """Lines to read and type, in order; those that begin with ``#`` are for the person."""
    name, minor, here, there = seed.resource, seed.minor, seed.primary, seed.secondary
    return [
        f"# 0. {here} holds the data and was promoted once; {there} has the same {name}.res and nothing to lose:",
        "#    python runbooks/phase2_drbd.py, and Ctrl-C while its last step waits for the copy.",
        f"#    {seed.disk} on {here} and {seed.target_disk} on {there} must have the same size to the byte: compare",
        f"#    `blockdev --getsize64`{'.' if seed.metadata else ' (internal metadata lies at the end of the disk).'}",
        f"# 1. On {there}: drbdadm down {name}, until step 6. On {here}, once nothing uses the storage (a Primary",
        "#    alone has no quorum with DRBD 9): from here on the bitmap counts what the travelling disk lacks.",
        places.LET_GO,
        f"drbdadm disconnect {name}",
        f"drbdsetup new-current-uuid --clear-bitmap {minor}",
        f"# 2. On {here}: a verbatim copy of data and metadata. On LVM let lvcreate --snapshot stand in the place of",
        "#    dd, and dd the snapshot after step 3: then the storage stands still for seconds, else while dd runs.",
        f"drbdadm down {name}",
        *_copies(seed),
        f"drbdadm up {name} && drbdadm disconnect {name}",
        f"# 3. On {here}: again, without --clear-bitmap. With DRBD 8.4 work goes on (dockyard-storage would wait for",
        f"#    {there}). DRBD 9 refuses `primary`: it has no quorum alone. Never force it; the storage waits for 8.",
        f"drbdsetup new-current-uuid {minor}",
        f"drbdadm connect {name}",
        f"drbdadm primary {name} && mount /dev/drbd{minor} {seed.mount}",
        f"# 4. Carry the disk to {there}. There, while {name} is down:",
        *_returns(seed),
        *_node_ids(seed),
        f"# 6. On {there}: only what changed since step 1 is sent now.",
        f"drbdadm up {name}",
        "# 7. The proof, before you trust it: `drbdsetup status --statistics` must end with out-of-sync:0 after",
        f"drbdadm verify {name}",
        f"# 8. On {here}: the storage belongs to Dockyard again, with what uses it.",
        f"systemctl start {places.STORAGE}",
        "# Never do step 1 without steps 2 to 4: DRBD would take a Secondary full of garbage for a good copy.",
    ]


def _copies(seed: Seed) -> list[str]:
    copies = [f"dd if={seed.disk} of=/dev/TRAVEL bs=4M conv=fsync status=progress"]
    if seed.metadata:
        copies += [f"dd if={seed.metadata} of=/media/TRAVEL-2/metadata bs=4M conv=fsync status=progress"]
    return copies


def _returns(seed: Seed) -> list[str]:
    copies = [f"dd if=/dev/TRAVEL of={seed.target_disk} bs=4M conv=fsync status=progress"]
    if seed.target_metadata:
        copies += [f"dd if=/media/TRAVEL-2/metadata of={seed.target_metadata} bs=4M conv=fsync status=progress"]
    return copies


def _node_ids(seed: Seed) -> list[str]:
    place = "flex-external" if seed.target_metadata else "internal"
    volume, old, new = f"{seed.resource}/0", seed.primary_id, seed.secondary_id
    swaps = (
        f"s/node-id {old}/node-id {new}/",
        f"s/^peer.{old}. /peer-NEW /",
        f"s/^peer.{new}. /peer[{old}] /",
        f"s/^peer-NEW /peer[{new}] /",
    )
    rewrite = " ".join(f"-e '{swap}'" for swap in swaps)
    minor, device = f"$(drbdadm sh-minor {volume})", f"$(drbdadm sh-md-dev {volume})"
    return [
        f"# 5. DRBD 9 only, on {seed.secondary}, resource down: the metadata still says node {old}; make it node {new}",
        f"#    (compare node-id in /etc/drbd.d/{seed.resource}.res)",
        f"drbdadm -- --force dump-md {volume} >/root/md.old",
        f"sed {rewrite} </root/md.old >/root/md.new",
        f"drbdmeta --force {minor} v09 {device} {place} restore-md /root/md.new",
    ]
