"""A look into a replica that is not mounted, which of its files are young, and copies of them: shell functions.

A replica that is Secondary is not mounted and not promoted for this. Its disk is read through a read-only loop device;
on that lies a snapshot of device-mapper, whose changes go to a file of their own: there the file system may replay its
journal. Nothing is written to the disk. The disk's cache is dropped before and after, as DRBD writes past it.
"""

from __future__ import annotations

import shlex

from dockyard.topology import Replication
from tasks.drbd import places
from tasks.drbd.witness import lost_contact

FOLDER = "/var/lib/dockyard/view"
MARGIN_S = 300
"""Files count as changed since so long before the contact was lost: what was written then may not have been sent."""

NEWEST = 12
"""How many files are named."""

KEPT = "/var/lib/dockyard/kept"
"""Where copies are kept, as long as nobody names another folder."""

_FUNCTIONS = r"""
say() { printf '%s|%s|%s\n' "$1" "$2" "$3"; }
clean() { tr '\001-\037\177' '?' | tr '\000' '\n' | sed 's/\xc2\x85/?/g; s/\xe2\x80[\xa8\xa9]/?/g'; }

close_view() {
    ! mountpoint -q "$folder/root" || umount "$folder/root"
    [ ! -e /dev/mapper/dockyard-view ] || dmsetup remove --retry dockyard-view
    [ ! -e "$folder/loops" ] || while read -r loop; do losetup --detach "$loop" 2>/dev/null; done <"$folder/loops"
    rm -f "$folder/loops" "$folder/changes" "$folder/list" "$folder/young"
    blockdev --flushbufs "$disk"
}

# Sets $root to where the files can be read, and $source to a device that holds their superblock; else says why not.
open_view() {
    install -d -m 0700 "$folder" "$folder/root" && exec 8>"$folder/lock" && flock -w 60 8 || return
    trap close_view EXIT
    trap 'exit 129' HUP; trap 'exit 143' TERM
    close_view
    if [ "$(findmnt -n -r -o SOURCE --mountpoint "$mount")" = "$device" ]; then
        root=$mount source=$device
        return
    fi
    room=$(($(df --block-size=1M --output=avail "$folder" | tail -n 1) / 2))
    [ "$room" -ge 64 ] || { echo "a snapshot needs 128 MiB free in $folder" >&2; return 1; }
    truncate -s "$((room < 2048 ? room : 2048))M" "$folder/changes"
    source=$(losetup --find --show --read-only "$disk") && echo "$source" >>"$folder/loops" || return
    changes=$(losetup --find --show "$folder/changes") && echo "$changes" >>"$folder/loops" || return
    dmsetup create dockyard-view --table "0 $(blockdev --getsz "$source") snapshot $source $changes N 8" || return
    options=ro; [ "$type" != xfs ] || options=ro,nouuid
    mount -t "$type" -o "$options" /dev/mapper/dockyard-view "$folder/root" && root=$folder/root
}

# When DRBD lost its connection, by the clock of this host and as far as its journal goes back; 0 when it does not say.
lost_at() {
    at=$(journalctl --no-pager --quiet --output=short-unix --lines=1 --grep="$lost" _TRANSPORT=kernel | tail -n 1)
    at=${at%%.*}
    echo "${at:-0}"
}

# All but directories that changed in some way since then, NUL after each: "seconds size path".
young() {
    since=$(lost_at); [ "$since" = 0 ] || since=$((since - margin))
    find "$root" -xdev -mindepth 1 -newerct "@$since" ! -type d -printf '%C@ %s %P\0'
}

# The young files as a tar archive, compared with what it was made of. Files that were deleted are in none.
keep_files() {
    begin_copy "$1" || return
    young >"$folder/young" || return # what cannot be read must not look like what did not change
    sed -z 's/^[^ ]* [^ ]* //' "$folder/young" >"$folder/list"
    tar --create --gzip --file="$1.new" --directory="$root" --format=posix --numeric-owner --xattrs --acls --sparse \
        --null --verbatim-files-from --no-recursion --files-from="$folder/list" &&
        onto_disk "$1.new" && tar --compare --gzip --file="$1.new" --directory="$root" && seal "$1"
}

keep_image() {
    begin_copy "$1" || return
    blockdev --flushbufs "$disk"
    gzip -1 <"$disk" >"$1.new" && onto_disk "$1.new" && gzip -dc <"$1.new" | cmp - "$disk" && seal "$1"
}

begin_copy() { umask 077; install -d -m 0700 -- "$(dirname -- "$1")"; }

# Also out of memory, so that what is compared comes from the disk.
onto_disk() { sync -- "$1" && dd of="$1" oflag=nocache conv=notrunc,fdatasync count=0 status=none; }

# The checksum beside it says that a copy is complete.
seal() {
    sum=$(sha256sum <"$1.new") && mv -f -- "$1.new" "$1" || return
    printf '%s  %s\n' "${sum%% *}" "$(basename -- "$1")" >"$1.sha256.new" && sync -- "$1.sha256.new" || return
    mv -f -- "$1.sha256.new" "$1.sha256" && sync -- "$(dirname -- "$1")"
}
"""


def script(replication: Replication, body: str, *, disk: str = "", other: str = "") -> str:
    """``body`` for sh(1) with these functions; ``disk`` is the one under DRBD, ``other`` the other replica."""
    known = {
        "name": replication.resource,
        "disk": disk,
        "other": other,
        "lost": lost_contact(replication.resource, other),
        "device": replication.device,
        "mount": replication.mount,
        "type": replication.filesystem,
        "folder": FOLDER,
        "margin": str(MARGIN_S),
        "newest": str(NEWEST),
    }
    words = " ".join(f"{name}={shlex.quote(value)}" for name, value in known.items())
    return f"set -u; export LC_ALL=C\n{words}\n{_FUNCTIONS}\n{body}"


_CATCH = rf"""
# Run at boot, before DRBD connects. A writer that went down as Primary may hold writes that were never sent; if the
# other replica took over meanwhile, DRBD overwrites them as soon as it connects. What changed in its last minutes is
# kept until it goes on as the writer (drbd-storage), or at least named. Nothing is done while the resource is up.
[ "$(sed -n 's/^writer=//p' {places.WRITER} 2>/dev/null)" = "$(uname -n)" ] || exit 0
! drbdsetup status "$name" >/dev/null 2>&1 || exit 0
seen=$(drbdadm get-gi "$name" 2>/dev/null | head -n 1)
[ "$(echo "$seen" | cut -d : -f 7)" = 1 ] || exit 0
kept={KEPT}/$name-returned-$(printf %.15s "$seen")-files.tar.gz
named=${{kept%.tar.gz}}.txt
note() {{ cat >"$named.new" && seal "$named"; }}
begin_copy "$named"
# Ended early it must not leave nothing behind: that would look like a writer that had nothing to lose.
[ -e "$named" ] || echo "nobody looked at its files to the end before DRBD came up: journalctl -u {places.UP}" | note
disk=$(drbdadm sh-ll-dev "$name") && open_view || {{ echo "its files cannot be read"; exit 0; }}
trap 'rm -f -- "$kept.new"; close_view' EXIT
last=$(find "$root" -xdev -printf '%C@\n' | sort -n | tail -n 1)
lost_at() {{ echo "${{last%%.*}}"; }}
young >"$folder/young" && clean <"$folder/young" | note
if keep_files "$kept"; then
    rm -f -- "$named" "$named.sha256"
    echo "what changed in its last minutes as the writer is kept in $kept"
else
    echo "what changed in its last minutes as the writer could not be kept; what is known of it is in $named"
fi
exit 0
"""


def catch(replication: Replication) -> str:
    """The script that keeps what a writer that went down may not have sent; it finds its disk out itself."""
    return "#!/bin/sh\n# Written by Dockyard.\n" + script(replication, _CATCH)
