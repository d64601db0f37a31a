"""The objects of the cluster, in the same kind of file that K3s keeps them in: SQLite, with a write-ahead log."""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

Object = dict[str, Any]
Key = tuple[str, str, str]
CLUSTER_WIDE = {"Node", "Namespace", "StorageClass", "PersistentVolume"}


def key_of(one: Object) -> Key:
    """Kind, namespace and name; what is in a namespace and names none is in ``default``."""
    meta = one["metadata"]
    kind = str(one["kind"])
    return kind, "" if kind in CLUSTER_WIDE else str(meta.get("namespace", "default")), str(meta["name"])


def now() -> str:
    """A moment as Kubernetes writes it."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


class Store:
    """Objects by key. Use it within `locked`, from any thread."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._lock = threading.RLock()
        self._database = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        self._database.execute("PRAGMA journal_mode=WAL")
        self._database.execute("PRAGMA synchronous=FULL")
        self._database.execute(
            "CREATE TABLE IF NOT EXISTS objects (kind TEXT, namespace TEXT, name TEXT, body TEXT, "
            "PRIMARY KEY (kind, namespace, name))"
        )

    @contextmanager
    def locked(self) -> Iterator[Store]:
        """Everything within is one transaction."""
        with self._lock:
            self._database.execute("BEGIN IMMEDIATE")
            try:
                yield self
            except BaseException:
                self._database.execute("ROLLBACK")
                raise
            self._database.execute("COMMIT")

    def get(self, key: Key) -> Object | None:
        """One object."""
        rows = self._database.execute("SELECT body FROM objects WHERE kind=? AND namespace=? AND name=?", key)
        found = rows.fetchone()
        return json.loads(found[0]) if found else None

    def of_kind(self, kind: str) -> list[Object]:
        """All objects of a kind, by namespace and name."""
        rows = self._database.execute("SELECT body FROM objects WHERE kind=? ORDER BY namespace, name", (kind,))
        return [json.loads(body) for (body,) in rows]

    def put(self, one: Object) -> None:
        """Write an object, new or changed."""
        one["metadata"].setdefault("creationTimestamp", now())
        row = (*key_of(one), json.dumps(one, sort_keys=True))
        self._database.execute("INSERT OR REPLACE INTO objects VALUES (?, ?, ?, ?)", row)

    def delete(self, key: Key) -> None:
        """Forget an object; that there is none is fine."""
        self._database.execute("DELETE FROM objects WHERE kind=? AND namespace=? AND name=?", key)
