"""Reader of restic's snapshots."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from tasks.backup.snapshots import Snapshot, Snapshots, read_snapshots, standing
from tests.parsers.readers import Reader
from tests.parsers.samples import Sample


def facts(state: Snapshots, sample: Sample) -> Any:
    times = {entry[0]: entry[2] for entry in sample.facts["snapshots"]}
    return {
        "repository": state.repository,
        "snapshots": [of_snapshot(snapshot, times.get(snapshot.id, "")) for snapshot in state.snapshots],
    }


def of_snapshot(snapshot: Snapshot, time: str) -> list[Any]:
    """The time as it was recorded when it is the same moment in the same zone."""
    same = snapshot.time == datetime.fromisoformat(time) and snapshot.time.utcoffset() is not None
    said = time if same else snapshot.time.isoformat()
    return [
        snapshot.id,
        snapshot.short_id,
        said,
        snapshot.host,
        snapshot.user,
        list(snapshot.paths),
        list(snapshot.tags),
    ]


READERS = [
    Reader(
        template="restic_snapshots",
        command="restic snapshots --json",
        read=lambda answer: read_snapshots(answer.text, stderr=answer.stderr, exit_code=answer.exit_code),
        facts=facts,
        standing=standing,
        words=lambda state: [state.repository],
    ),
]
