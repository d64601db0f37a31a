"""A unit that uses the storage: it writes numbered records, and acknowledges each when it is on the disk."""

from __future__ import annotations

from lab import Lab
from lab.driver import Machine

PAIR = ("dock-prod", "dock-mirror")
UNIT = "numbered.service"
_FILES = {
    f"/etc/systemd/system/{UNIT}": """\
[Unit]
Description=A writer that says only what is on the disk
[Service]
ExecStart=/usr/bin/python3 /usr/local/bin/numbered /srv/data/records /var/tmp/acknowledged
[Install]
WantedBy=multi-user.target
""",
    "/usr/local/bin/numbered": """\
import os, sys, time
records, acknowledged = open(sys.argv[1], "a+"), open(sys.argv[2], "a")
records.seek(0)
number = sum(1 for _ in records)
while True:
    number += 1
    records.write(f"{number}\\n"); records.flush(); os.fsync(records.fileno())
    acknowledged.write(f"{number}\\n"); acknowledged.flush()
    time.sleep(0.02)
""",
}


def install(lab: Lab) -> None:
    """Put the unit on both replicas, enabled, as a package would."""
    files = [f"cat >{path} <<'END'\n{text}END" for path, text in _FILES.items()]
    for host in PAIR:
        lab[host].succeed("\n".join([*files, f"systemctl daemon-reload && systemctl -q enable {UNIT}"]), sudo=True)


def acknowledged(machine: Machine) -> int:
    """The last number that was acknowledged on a machine; 0 for none."""
    return int(machine.succeed("tail -n 1 /var/tmp/acknowledged 2>/dev/null || true", sudo=True) or 0)


def records(machine: Machine) -> int:
    """How many records the storage of a machine holds; none of them may be missing or torn."""
    found = [int(record) for record in machine.succeed("cat /srv/data/records", sudo=True).split()]
    assert found == list(range(1, len(found) + 1)), "records are missing"
    return len(found)
