"""What the checks say of a broken mesh: the cause once, with its consequences, and nothing of a healthy one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from dockyard.errors import ParseError, Unreachable
from dockyard.findings import Cause, Finding
from dockyard.standing import Level
from tasks import wireguard
from tasks.wireguard import ReachState, WireguardState
from tests.unit.meshes import (
    ANSWER,
    HOSTS,
    NOW,
    SILENCE,
    change_peer,
    healthy,
    key_of,
    observed,
    pristine,
    reached,
    relink,
    silent,
    topology,
)

State = dict[str, WireguardState]
Reach = dict[str, ReachState]


def check(states: dict[str, Any], reach: dict[str, Any]) -> list[Finding]:
    return wireguard.check_mesh(topology(), observed(states, reach))


def all_reached() -> Reach:
    return {host: reached(host) for host in HOSTS}


def cut(reach: Reach, *pairs: tuple[str, str]) -> Reach:
    """Nothing comes back in these directions and their opposites."""
    gone = {host: [b for a, b in [*pairs, *[(b, a) for a, b in pairs]] if a == host] for host in reach}
    return {host: silent(state, *gone[host]) for host, state in reach.items()}


def alone(host: str) -> list[tuple[str, str]]:
    return [(host, other) for other in HOSTS if other != host]


def test_a_healthy_mesh_has_no_findings_and_twenty_directions() -> None:
    seen = observed(healthy(), all_reached())
    assert wireguard.check_mesh(topology(), seen) == []
    directions = wireguard.directions(topology(), seen)
    assert len(directions) == 20
    assert all(d.mtu_proven and d.rtt_ms == 30.5 and d.faults == [] for d in directions)
    assert set(wireguard.link_levels(topology(), seen).values()) == {Level.HEALTHY}


def test_a_link_is_failed_when_one_direction_is_and_unknown_when_one_was_not_seen() -> None:
    reach = cut(all_reached(), ("dock-prod", "dock-mirror"))
    states: dict[str, Any] = healthy() | {"dock-dash": Unreachable("dock-dash", "no answer")}
    levels = wireguard.link_levels(topology(), observed(states, reach))
    assert len(levels) == 10
    assert levels[frozenset({"dock-prod", "dock-mirror"})] is Level.FAILED
    assert levels[frozenset({"dock-prod", "dock-edge"})] is Level.HEALTHY
    assert {levels[frozenset({"dock-dash", other})] for other in HOSTS if other != "dock-dash"} == {Level.UNKNOWN}


def stopped(state: WireguardState) -> WireguardState:
    return replace(state, interface=None, link=None, service=replace(state.service, active="inactive"))


def without_key(state: WireguardState) -> WireguardState:
    return replace(state, key=None)


HOST_FAULTS: dict[str, tuple[Callable[[WireguardState], WireguardState], str, bool]] = {
    "stopped": (stopped, "wg0 is not up", True),
    "flushed": (lambda s: relink(s, addresses=(), routes=()), "does not have its address 10.20.0.4/24", True),
    "set down": (lambda s: relink(s, up=False, routes=()), "wg0 is set down", True),
    "no route": (lambda s: relink(s, routes=()), "there is no route to 10.20.0.0/24", True),
}


@pytest.mark.parametrize("damage", HOST_FAULTS)
def test_a_fault_on_a_host_is_one_finding_that_names_its_directions(damage: str) -> None:
    damaged, fault, _ = HOST_FAULTS[damage]
    states = healthy()
    states["dock-load"] = damaged(states["dock-load"])
    (finding,) = check(states, cut(all_reached(), *alone("dock-load")))
    assert (finding.host, finding.cause) == ("dock-load", Cause.MESH)
    assert fault in finding.fault
    assert "so 8 directions fail: " in finding.evidence
    assert "dock-load -> dock-dash" in finding.evidence


def test_a_peer_removed_on_one_side_explains_both_directions() -> None:
    states = healthy()
    state = states["dock-load"]
    assert state.interface
    peers = {key: peer for key, peer in state.interface.peers.items() if key != key_of("dock-mirror")}
    states["dock-load"] = replace(state, interface=replace(state.interface, peers=peers))
    (finding,) = check(states, cut(all_reached(), ("dock-load", "dock-mirror")))
    assert (finding.host, finding.subject) == ("dock-load", "dock-mirror")
    assert finding.evidence.startswith("peer dock-mirror is missing; so 2 directions fail: ")


def with_stranger(state: WireguardState) -> WireguardState:
    assert state.interface
    stranger = replace(state.interface.peers[key_of("dock-load")], public_key=key_of("stranger"))
    return replace(
        state, interface=replace(state.interface, peers={**state.interface.peers, stranger.public_key: stranger})
    )


def edited(state: WireguardState) -> WireguardState:
    path = "/etc/wireguard/wg0.conf"
    file = replace(state.files[path], content=state.files[path].content + "PrivateKey = c2VjcmV0\n")
    return replace(state, files={**state.files, path: file})


def readable(state: WireguardState) -> WireguardState:
    assert state.key
    return replace(state, key=replace(state.key, mode=0o644))


QUIET_FAULTS: dict[str, tuple[Callable[[WireguardState], WireguardState], str, str]] = {
    "unknown peer": (with_stranger, "wg0 has an unknown peer", "(the address of dock-load)"),
    "readable key": (readable, "others than root may read the private key", "0644 root:root"),
    "not enabled": (
        lambda s: replace(s, service=replace(s.service, enabled="disabled")),
        "wg0 will not come back after a reboot",
        "wg-quick@wg0.service is active and disabled",
    ),
    "edited file": (edited, "/etc/wireguard/wg0.conf was changed", "not planned: PrivateKey = ..."),
    "removed file": (
        lambda s: replace(s, files=pristine("dock-dash").files),
        "wg-sync is missing",
        "there is no such file",
    ),
    "missing key": (without_key, "has no private key", "/etc/wireguard/wg0.key is not there"),
    "narrow interface": (
        lambda s: relink(s, mtu=1300),
        "the MTU of wg0 is wrong",
        "it is 1300 bytes, planned are 1420",
    ),
    "files that systemd has not read": (
        lambda s: replace(s, reload_needed=True),
        "systemd has not read its changed files yet",
        "NeedDaemonReload=yes",
    ),
    "extra address": (
        lambda s: relink(s, addresses=("10.20.0.1/24", "10.9.9.9/32")),
        "wg0 has addresses that are not planned",
        "10.9.9.9/32",
    ),
    "lost preshared key": (
        lambda s: replace(s, preshared={peer: file for peer, file in s.preshared.items() if peer != "dock-load"}),
        "shares no preshared key with dock-load",
        "no file on dock-dash",
    ),
}


@pytest.mark.parametrize("damage", QUIET_FAULTS)
def test_faults_that_stop_no_packet_are_found_too(damage: str) -> None:
    damaged, fault, evidence = QUIET_FAULTS[damage]
    states = healthy()
    states["dock-dash"] = damaged(states["dock-dash"])
    findings = [finding for finding in check(states, all_reached()) if finding.host == "dock-dash"]
    found = [finding for finding in findings if fault in finding.fault]
    assert len(found) == 1, findings
    assert evidence in found[0].evidence
    assert found[0].advice
    assert "c2VjcmV0" not in str(findings)


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        ({}, ""),
        ({"active": "inactive"}, "dockyard-wg-resolve.timer is inactive and enabled"),
        ({"enabled": "disabled"}, "dockyard-wg-resolve.timer is active and disabled"),
        ({"loaded": False, "active": "inactive", "enabled": ""}, "is inactive and not installed"),
    ],
)
def test_names_that_nobody_resolves_again_are_found(parts: dict[str, Any], said: str) -> None:
    load = topology().host("dock-load")
    mesh = replace(
        topology(),
        hosts={
            **topology().hosts,
            "dock-load": replace(load, wireguard=replace(load.wireguard, endpoint="load.dock.test")),
        },
    )
    address = frozenset({"10.99.0.14"})
    states = {
        host: change_peer(
            replace(
                state,
                resolved={"load.dock.test": address},
                timer=replace(state.timer, loaded=True, active="active", enabled="enabled"),
            ),
            "dock-load",
            endpoint="10.99.0.14:51820",
        )
        for host, state in healthy(mesh).items()
        if host != "dock-load"
    }
    states["dock-load"] = healthy(mesh)["dock-load"]
    states["dock-dash"] = replace(states["dock-dash"], timer=replace(states["dock-dash"].timer, **parts))
    found = wireguard.check_mesh(mesh, observed(states, all_reached()))
    assert [finding.fault for finding in found] == [
        "names of endpoints are not resolved again when they change"
    ] * bool(said)
    assert all(said in finding.evidence for finding in found)


def test_a_name_that_does_not_resolve_is_named_and_not_the_address_that_works() -> None:
    states = {host: replace(state, resolved={"home.lan": frozenset()}) for host, state in healthy().items()}
    states["dock-dash"] = replace(states["dock-dash"], resolved={"home.lan": frozenset({"10.99.0.12"})})
    found = wireguard.check_mesh(topology(), observed(states, all_reached()))
    assert {finding.fault for finding in found} == {"the endpoint home.lan does not resolve"}
    assert [finding.host for finding in found] == ["dock-prod", "dock-mirror", "dock-load", "dock-edge"]


def with_ping(state: ReachState, peer: str, **parts: Any) -> ReachState:
    return replace(state, full={**state.full, peer: replace(SILENCE, **parts)})


def test_a_path_that_is_too_narrow_is_a_finding_of_its_direction_alone() -> None:
    reach = all_reached()
    reach["dock-prod"] = with_ping(reach["dock-prod"], "dock-mirror", said="Frag needed and DF set (mtu = 1400)")
    (finding,) = check(healthy(), reach)
    assert (finding.cause, finding.host, finding.subject) == (Cause.MTU, "dock-prod", "dock-mirror")
    assert "Frag needed and DF set (mtu = 1400)" in finding.evidence
    assert "wireguard.mtu" in finding.advice


def test_an_old_handshake_alone_is_no_fault_when_it_was_renewed_by_the_ping() -> None:
    states = healthy()
    states["dock-dash"] = change_peer(states["dock-dash"], "dock-load", latest_handshake=NOW - 86_400)
    assert check(states, all_reached()) == []


COUNTERS: dict[str, tuple[dict[str, dict[str, Any]], str]] = {
    "stale handshake": ({"handshakes": {key_of("dock-load"): NOW - 240}}, "the last handshake is 241 s old"),
    "no handshake": ({"handshakes": {key_of("dock-load"): 0}}, "there never was a handshake"),
    "nothing in": ({"after": {key_of("dock-load"): (1000, 2600)}}, "nothing was received"),
    "nothing out": ({"after": {key_of("dock-load"): (2500, 1000)}}, "nothing was sent"),
}


@pytest.mark.parametrize("damage", COUNTERS)
def test_answers_without_handshake_or_moving_counters_are_not_believed(damage: str) -> None:
    parts, fault = COUNTERS[damage]
    reach = all_reached()
    state = reach["dock-dash"]
    merged = {name: {**getattr(state, name), **values} for name, values in parts.items()}
    reach["dock-dash"] = replace(state, **merged)  # type: ignore[arg-type]  # parts by name
    (finding,) = check(healthy(), reach)
    assert (finding.host, finding.subject) == ("dock-dash", "dock-load")
    assert fault in finding.fault


def test_an_endpoint_at_another_address_is_named_even_when_it_answers() -> None:
    states = healthy()
    states["dock-dash"] = change_peer(states["dock-dash"], "dock-load", endpoint="10.99.0.77:51820")
    (finding,) = check(states, all_reached())
    assert finding.fault == "to dock-load: the endpoint is 10.99.0.77:51820, not as planned"


def test_another_port_of_a_peer_that_answers_is_what_nat_does() -> None:
    states = healthy()
    states["dock-dash"] = change_peer(states["dock-dash"], "dock-load", endpoint="10.99.0.14:40123")
    assert check(states, all_reached()) == []


def test_one_dead_pair_is_two_directions() -> None:
    findings = check(healthy(), cut(all_reached(), ("dock-dash", "dock-load")))
    assert [(finding.host, finding.subject) for finding in findings] == [
        ("dock-dash", "dock-load"),
        ("dock-load", "dock-dash"),
    ]
    assert all("no answer through the mesh" in finding.fault for finding in findings)
    assert "0 of 9 answered" in findings[0].evidence


def test_a_fresh_handshake_without_an_answer_is_a_firewall_inside_the_tunnel() -> None:
    quiet = cut(all_reached(), ("dock-dash", "dock-load"))
    fresh = {host: replace(state, handshakes=reached(host).handshakes) for host, state in quiet.items()}
    one, other = check(healthy(), fresh)
    udp = "Does UDP get from dock-dash to 10.99.0.14:51820?"
    assert one.advice.startswith("The tunnel is up (its handshake is 21 s old), and dock-load drops pings inside wg0.")
    assert "On dock-load, allow them: ufw allow in on wg0" in one.advice
    assert "On dock-dash, allow them: ufw allow in on wg0" in other.advice
    assert udp in one.advice
    assert check(healthy(), quiet)[0].advice.startswith(udp)


def test_a_host_that_nobody_reaches_is_one_finding() -> None:
    (finding,) = check(healthy(), cut(all_reached(), *alone("dock-mirror")))
    assert (finding.host, finding.fault) == ("dock-mirror", "nobody gets through to this host, nor it to anybody")
    assert "8 directions are dead" in finding.evidence


def test_two_sites_without_a_way_between_them_are_one_finding() -> None:
    pairs = [(home, dc) for home in ("dock-prod", "dock-edge") for dc in ("dock-mirror", "dock-load")]
    (finding,) = check(healthy(), cut(all_reached(), *pairs))
    assert finding.fault in {
        "nothing gets through between the sites home and dc",
        "nothing gets through between the sites dc and home",
    }


AWAY = Unreachable("dock-edge", "no answer within 10 s", advice="Is it switched on?")


def test_a_host_that_is_off_is_one_finding_and_explains_what_leads_there() -> None:
    states: dict[str, Any] = {**healthy(), "dock-edge": AWAY}
    reach: dict[str, Any] = {**cut(all_reached(), *alone("dock-edge")), "dock-edge": AWAY}
    (finding,) = check(states, reach)
    assert (finding.cause, finding.host, finding.unseen) == (Cause.REACH, "dock-edge", True)
    assert "no answer within 10 s" in finding.evidence
    assert "it answers none of dock-dash, dock-prod, dock-mirror, dock-load" in finding.evidence
    assert finding.advice == "Is it switched on?"


def test_a_host_that_only_we_cannot_reach_is_said_to_answer_the_others() -> None:
    states: dict[str, Any] = {**healthy(), "dock-edge": AWAY}
    (finding,) = check(states, {**all_reached(), "dock-edge": AWAY})
    assert "but through the mesh it answers dock-dash, dock-prod, dock-mirror, dock-load" in finding.evidence


def test_output_that_nobody_understands_is_a_finding_of_the_mesh() -> None:
    states: dict[str, Any] = {**healthy(), "dock-edge": ParseError("wg show all dump", 3, "new line", "")}
    (finding,) = check(states, all_reached())
    assert (finding.cause, finding.host, finding.unseen) == (Cause.MESH, "dock-edge", True)
    assert "line 3 is not understood" in finding.evidence


def test_pings_that_could_not_be_read_are_a_finding_and_not_health() -> None:
    reach: dict[str, Any] = {**all_reached(), "dock-load": ParseError("wireguard reach", 1, "?", "")}
    (finding,) = check(healthy(), reach)
    assert (finding.host, finding.fault) == ("dock-load", "wireguard reach could not be read")


def test_nothing_was_done_yet_on_any_host() -> None:
    reach = {host: replace(reached(host), small={}, full={}, before={}, after={}, handshakes={}) for host in HOSTS}
    findings = check({host: pristine(host) for host in HOSTS}, reach)
    assert {finding.host for finding in findings if finding.fault == "has no private key"} == set(HOSTS)
    assert not any("->" in finding.fault for finding in findings)


def test_the_ping_that_answers_is_used() -> None:
    assert ANSWER.answered
    assert not SILENCE.answered
