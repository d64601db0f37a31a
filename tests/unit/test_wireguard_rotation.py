"""Key rotation: the way back first, old key kept until proven, host and peers alike."""

from __future__ import annotations

import os
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dockyard.change import Change, WriteFile
from dockyard.errors import NotObserved, Unreachable
from dockyard.rendering import render
from tasks import wireguard
from tasks.wireguard import WireguardState
from tasks.wireguard.state import KeyFile
from tests.unit.meshes import HOSTS, healthy, key_of, observed, topology

NEW = KeyFile(mode=0o600, owner="root:root", public_key=key_of("dock-load-2"))


def with_new_key() -> dict[str, WireguardState]:
    states = healthy()
    states["dock-load"] = replace(states["dock-load"], next_key=NEW)
    return states


def lines(changes: Any) -> list[str]:
    return [change.title for change in changes]


def test_the_new_key_is_made_beside_the_old_one() -> None:
    plan = wireguard.plan_new_key(topology(), observed(healthy()), "dock-load")
    assert {host: lines(changes) for host, changes in plan.items()} == {
        "dock-load": ["make the private key /etc/wireguard/wg0.key.new"]
    }
    assert wireguard.plan_new_key(topology(), observed(with_new_key()), "dock-load") == {}


def test_every_host_starts_its_way_back_before_it_changes_anything() -> None:
    plan = wireguard.plan_swap(topology(), observed(with_new_key()), "dock-load")
    assert set(plan) == set(HOSTS)
    for changes in plan.values():
        titles = lines(changes)
        assert titles[0] == "write /run/dockyard-wg-back"
        assert titles[1].startswith("start the way back: in 180 s, unless ")
        assert titles[-1] == "bring wg0 in line"
        assert not any(change.provisional for change in changes)


def written(changes: Any, path: str) -> WriteFile:
    (found,) = [change for change in changes if isinstance(change, WriteFile) and change.path == path]
    return found


def test_peers_learn_the_new_key_and_nothing_else() -> None:
    states = with_new_key()
    plan = wireguard.plan_swap(topology(), observed(states), "dock-load")
    for peer in (host for host in HOSTS if host != "dock-load"):
        file = written(plan[peer], "/etc/wireguard/wg0.conf")
        before = states[peer].files[file.path].content
        assert file.content == before.replace(key_of("dock-load"), key_of("dock-load-2"))
        assert "unless 10.20.0.4 answers" in lines(plan[peer])[1]


def test_the_host_itself_takes_its_new_key_and_asks_all_peers() -> None:
    changes = wireguard.plan_swap(topology(), observed(with_new_key()), "dock-load")["dock-load"]
    assert lines(changes)[2:] == ["take the new private key", "bring wg0 in line"]
    assert "unless 10.20.0.1 or 10.20.0.2 or 10.20.0.3 or 10.20.0.5 answers" in lines(changes)[1]


def test_a_dry_run_shows_a_swap_that_cannot_be_applied() -> None:
    plan = wireguard.plan_swap(topology(), observed(healthy()), "dock-load")
    assert any(change.provisional for change in plan["dock-load"])
    assert "(the new public key of dock-load)" in plan["dock-dash"][2].diff()


def test_after_the_swap_the_plans_are_empty_and_the_old_state_is_dropped_last() -> None:
    swapped = {host: replace(state, kept=("wg0.conf.old", "wg0.key.old")) for host, state in healthy().items()}
    assert wireguard.plan_new_key(topology(), observed(swapped), "dock-load") == {}
    assert wireguard.plan_swap(topology(), observed(swapped), "dock-load") == {}
    assert set(wireguard.plan_settle(topology(), observed(swapped))) == set(HOSTS)
    assert wireguard.plan_settle(topology(), observed(healthy())) == {}


def test_nobody_changes_when_one_host_was_not_seen() -> None:
    states: dict[str, Any] = {**with_new_key(), "dock-edge": Unreachable("dock-edge", "no answer")}
    with pytest.raises(NotObserved):
        wireguard.plan_swap(topology(), observed(states), "dock-load")


@pytest.fixture
def host(tmp_path: Path) -> Path:
    """A folder that stands for /etc/wireguard after a swap, and programs that note how they were called."""
    for name, text in {"wg0.key": "new", "wg0.key.old": "old", "wg0.conf": "new", "wg0.conf.old": "old"}.items():
        (tmp_path / name).write_text(text)
    (tmp_path / "wg-sync").write_text(f"#!/bin/sh\necho synced >>{tmp_path}/calls\n")
    (tmp_path / "sleep").write_text(
        f"#!/bin/sh\nls {tmp_path} | grep back >>{tmp_path}/slept\necho $1 >>{tmp_path}/slept\n"
    )
    (tmp_path / "ping").write_text('#!/bin/sh\nfor last; do :; done\n[ "$last" = "$ANSWERS" ]\n')
    (tmp_path / "wg").write_text(
        f"#!/bin/sh\ncase $1.$3 in\n pubkey.) cat ;;\n show.public-key) cat {tmp_path}/kernel-key ;;\n"
        f" show.peers) cat {tmp_path}/kernel-peers ;;\nesac\n"
    )
    (tmp_path / "kernel-key").write_text("new")
    (tmp_path / "kernel-peers").write_text("a=\nb=\n")
    for name in ("wg-sync", "ping", "sleep", "wg"):
        (tmp_path / name).chmod(0o755)
    return tmp_path


def way_back(host: Path, answers: str) -> dict[str, str]:
    """Run the rendered script; what the folder holds afterwards."""
    values = {
        "interface": "wg0",
        "addresses": ["10.20.0.1", "10.20.0.2"],
        "sync": host / "wg-sync",
        "back": host / "back",
    }
    script = render("wg-back", **values).replace("/etc/wireguard", str(host))
    environment = {"PATH": f"{host}:{os.environ['PATH']}", "ANSWERS": answers}
    subprocess.run(["sh", "-c", script], check=True, env=environment, capture_output=True)
    return {path.name: path.read_text() for path in sorted(host.glob("wg0.*")) + sorted(host.glob("calls"))}


def test_a_new_key_that_works_stays(host: Path) -> None:
    assert way_back(host, "10.20.0.2") == {"wg0.conf": "new", "wg0.key": "new"}


@pytest.mark.parametrize("behind", ["key", "peer"])
def test_what_works_with_the_keys_before_is_no_proof_of_the_new_ones(host: Path, behind: str) -> None:
    """wg-sync failed in the rotation: the kernel goes on with what the files no longer have."""
    if behind == "key":
        (host / "kernel-key").write_text("old")
    else:
        (host / "wg0.conf").write_text("[Peer]\nPublicKey = a=\n[Peer]\nPublicKey = c=\n")
    assert way_back(host, "10.20.0.2") == {"wg0.conf": "old", "wg0.key": "old", "calls": "synced\n"}


def test_a_new_key_that_reaches_nobody_goes_and_the_interface_follows(host: Path) -> None:
    assert way_back(host, "nobody") == {"wg0.conf": "old", "wg0.key": "old", "calls": "synced\n"}


def test_the_old_key_comes_back_however_long_an_endpoint_does_not_resolve(host: Path) -> None:
    """Until then the script is there, so its unit is active, and the probe says that the way back is pending."""
    (host / "back").write_text("the script itself")
    (host / "wg-sync").write_text(f'#!/bin/sh\necho synced >>{host}/calls\n[ "$(wc -l <{host}/calls)" -gt 2 ]\n')
    assert way_back(host, "nobody") == {"wg0.conf": "old", "wg0.key": "old", "calls": "synced\n" * 3}
    assert (host / "slept").read_text() == "back\n30\n" * 2
    assert not (host / "back").exists()


def test_a_swap_that_was_cut_off_before_it_began_changes_nothing(host: Path) -> None:
    for name in ("wg0.key.old", "wg0.conf.old"):
        (host / name).unlink()
    assert way_back(host, "nobody") == {"wg0.conf": "new", "wg0.key": "new", "calls": "synced\n"}


def test_changes_show_no_secret() -> None:
    plan = wireguard.plan_swap(topology(), observed(with_new_key()), "dock-load")
    shown: list[Change] = [change for changes in plan.values() for change in changes]
    assert not any("PrivateKey" in change.diff() for change in shown)
