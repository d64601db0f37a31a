"""New keys on running machines."""

from __future__ import annotations

from lab import Lab
from tests.lab.conftest import Runbooks

PUBLIC_KEY = "wg show wg0 public-key"


def test_a_host_gets_a_new_key_and_every_direction_works(meshed: Lab, runbooks: Runbooks) -> None:
    edge = meshed["dock-edge"]
    before = edge.succeed(PUBLIC_KEY, sudo=True)
    runbooks.succeed("rotate_keys", "dock-edge", "--yes")
    after = edge.succeed(PUBLIC_KEY, sudo=True)
    assert after != before
    assert after.strip() in meshed["dock-dash"].succeed("wg show wg0 peers", sudo=True)
    assert runbooks.succeed("health", "--json").faults == []
    assert runbooks.succeed("phase1_baseline", "--yes", "--json").changes == {}
