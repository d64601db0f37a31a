"""New keys on running machines, with the way back."""

from __future__ import annotations

import pytest

from lab import Lab
from tests.lab.conftest import HOSTS, Runbooks

PUBLIC_KEY = "wg show wg0 public-key"


@pytest.mark.drill
def test_a_host_gets_a_new_key_and_every_direction_works(meshed: Lab, runbooks: Runbooks) -> None:
    edge = meshed["dock-edge"]
    before = edge.succeed(PUBLIC_KEY, sudo=True)
    runbooks.succeed("rotate_keys", "dock-edge", "--yes")
    after = edge.succeed(PUBLIC_KEY, sudo=True)
    assert after != before
    assert after.strip() in meshed["dock-dash"].succeed("wg show wg0 peers", sudo=True)
    assert runbooks.succeed("health", "--json").faults == []
    assert runbooks.succeed("phase1_baseline", "--yes", "--json").changes == {}


@pytest.mark.drill
def test_a_new_key_that_was_never_proven_makes_way_for_the_old_one(meshed: Lab, runbooks: Runbooks) -> None:
    """The controller dies right after the change-over and dock-prod is cut off from everyone: nobody proves the key."""
    prod = meshed["dock-prod"]
    before = prod.succeed(PUBLIC_KEY, sudo=True).strip()
    with runbooks.start("rotate_keys", "dock-prod", "--yes") as run:
        assert run.stdout is not None
        assert any("works in all directions" in line for line in run.stdout)
        run.kill()
    others = [host for host in HOSTS if host != "dock-prod"]
    for other in others:
        meshed.cut("dock-prod", other)
    assert prod.succeed(PUBLIC_KEY, sudo=True).strip() != before
    prod.wait_until_succeeds(f'[ "$({PUBLIC_KEY})" = {before} ]', sudo=True, timeout_s=300)
    for other in others:
        meshed[other].wait_until_succeeds(f"wg show wg0 peers | grep -qxF {before}", sudo=True, timeout_s=60)
    meshed.heal()
    runbooks.succeed("phase1_baseline", "--yes")
    assert runbooks.succeed("health", "--json").faults == []
