"""How every finding about backups is made."""

from __future__ import annotations

from dockyard.findings import Cause, Finding


def finding(host: str, fault: str, evidence: str, advice: str) -> Finding:
    """A finding about backups: after the application, before monitoring."""
    return Finding(cause=Cause.BACKUP, host=host, fault=fault, evidence=evidence, advice=advice)
