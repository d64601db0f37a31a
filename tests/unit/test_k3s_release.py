"""The release of K3s as evidence names it: by the inventory's version, without starting anything."""

from __future__ import annotations

from typing import Any

import pytest

from dockyard.observe import Observed
from dockyard.remote import Completed, Outputs
from dockyard.topology import Architecture
from tasks.k3s import places
from tasks.k3s.release import RELEASE, named, versions
from tests.unit.kube import DIGEST, MIRROR, NODE_NAMES, PROD, VERSION, topology

CLUSTER = topology()
OTHER = places.stored("ab" * 32)


@pytest.mark.parametrize(
    ("parts", "binary", "said"),
    [
        ({}, places.stored(DIGEST), VERSION),
        ({"sha256": {Architecture.AMD64: "cd" * 32, Architecture.ARM64: DIGEST}}, places.stored(DIGEST), VERSION),
        ({}, OTHER, "k3s-abababababababab"),
        ({"version": None}, places.stored(DIGEST), "k3s-0f0f0f0f0f0f0f0f"),
    ],
)
def test_a_release_is_called_by_the_pinned_version_or_by_its_file(
    parts: dict[str, Any], binary: str, said: str
) -> None:
    assert named(topology(**parts), binary) == said


def test_a_host_without_k3s_has_no_version_of_it() -> None:
    seen = Observed({PROD: {RELEASE.name: places.stored(DIGEST)}, MIRROR: {RELEASE.name: ""}})
    found = [versions(CLUSTER, seen, host) for host in (PROD, MIRROR, "dock-dash")]
    assert found == [{"k3s": VERSION}, {}, {}]


def test_only_nodes_are_asked_and_only_where_their_link_leads() -> None:
    assert [host for host in CLUSTER.hosts if RELEASE.concerns(CLUSTER, CLUSTER.host(host))] == [
        host for host in CLUSTER.hosts if host in NODE_NAMES
    ]
    (command,) = RELEASE.probes(CLUSTER, CLUSTER.host(PROD))
    assert command.argv == ("readlink", places.BINARY)
    for exit_code, stdout in ((0, f"{OTHER}\n"), (1, "")):
        answer = Completed(
            name=command.name, argv=command.argv, exit_code=exit_code, stdout=stdout, stderr="", duration_s=0.01
        )
        outputs = Outputs(PROD, [answer], [command])
        assert RELEASE.read(CLUSTER, CLUSTER.host(PROD), outputs) == stdout.strip()
