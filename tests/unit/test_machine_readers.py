"""Particular cases of ss, chronyc, timedatectl and ip."""

from __future__ import annotations

import json
from typing import Any

import pytest

from dockyard.errors import ParseError
from dockyard.links import NextHop, RouteType, links_standing, read_addresses, read_links, read_routes
from dockyard.standing import Level
from tasks.machine.clock import (
    Leap,
    read_timedatectl,
    read_tracking,
    timedatectl_standing,
    tracking_standing,
)
from tasks.machine.sockets import Process, read_sockets, sockets_standing
from tests.parsers.samples import samples_of


def text_of(template: str, part: str) -> str:
    return next(one.text for one in samples_of(template) if part in one.path.stem)


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("tcp LISTEN 0 128 *:22 *:*", "tcp *:22"),
        ("tcp    LISTEN     0      128         :::22        :::*  ", "tcp [::]:22"),
        ("tcp LISTEN 0 50 ::ffff:127.0.0.1:8080 :::*", "tcp [::ffff:127.0.0.1]:8080"),
        ("udp UNCONN 0 0 [fe80::1]%eth0:546 [::]:*", "udp [fe80::1]%eth0:546"),
        ("udp UNCONN 0 0 *%virbr0:67 *:*", "udp *%virbr0:67"),
    ],
)
def test_addresses_in_the_forms_of_all_versions(line: str, shown: str) -> None:
    assert [str(socket) for socket in read_sockets(line + "\n").sockets] == [shown]


def test_processes_may_have_strange_names() -> None:
    line = 'tcp LISTEN 0 128 0.0.0.0:22 0.0.0.0:* users:(("tmux: server",pid=5,fd=3),("(sd-pam)",pid=1,fd=4))\n'
    assert read_sockets(line).sockets[0].processes == (
        Process(name="tmux: server", pid=5, fd=3),
        Process(name="(sd-pam)", pid=1, fd=4),
    )


@pytest.mark.parametrize(
    "line",
    [
        "tcp UNCONN 0 128 0.0.0.0:22 0.0.0.0:*",
        "tcp LISTEN 0 128 0.0.0.0:99999 0.0.0.0:*",
        "sctp LISTEN 0 128 0.0.0.0:22 0.0.0.0:*",
        "tcp ESTAB 0 0 10.0.0.1:22 10.0.0.2:50000",
        'tcp LISTEN 0 128 0.0.0.0:22 0.0.0.0:* users:(("sshd",pid=5,fd=3),and more)',
    ],
)
def test_what_does_not_listen_is_refused(line: str) -> None:
    with pytest.raises(ParseError):
        read_sockets(line + "\n")


def test_a_full_queue_is_seen() -> None:
    state = read_sockets("tcp LISTEN 129 128 0.0.0.0:443 0.0.0.0:*\n")
    assert sockets_standing(state) == {"tcp 0.0.0.0:443": Level.DEGRADED}


FOLLOWING = text_of("chronyc_tracking", "002_following")


def test_slow_is_below_zero() -> None:
    slow = read_tracking(text_of("chronyc_tracking", "007_dotted")).tracking
    assert slow
    assert (slow.offset_s, slow.leap, slow.synchronised) == (-12.5, Leap.DELETE, True)
    assert tracking_standing(read_tracking(text_of("chronyc_tracking", "007_dotted"))) == {"clock": Level.DEGRADED}
    assert tracking_standing(read_tracking(FOLLOWING)) == {"clock": Level.HEALTHY}


@pytest.mark.parametrize("part", ["001_local_reference", "004_not_synchronised", "005_not_running"])
def test_nothing_to_follow_is_a_failure(part: str) -> None:
    assert tracking_standing(read_tracking(text_of("chronyc_tracking", part))) == {"clock": Level.FAILED}


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("Stratum         : 11\n", ""),
        ("Leap status     : Normal", "Leap status     : Bored"),
        ("Nov 25", "Nov 31"),
        ("Nov 25", "Foo 25"),
    ],
)
def test_tracking_that_is_not_whole_or_right_is_refused(old: str, new: str) -> None:
    with pytest.raises(ParseError):
        read_tracking(FOLLOWING.replace(old, new))


def test_a_time_service_that_is_still_waiting() -> None:
    waiting = read_timedatectl(text_of("timedatectl_show", "003_waiting"))
    assert (waiting.ntp, waiting.synchronized, waiting.rtc_time, waiting.rtc_in_local_time) == (True, False, "", True)
    assert timedatectl_standing(waiting) == {"clock": Level.DEGRADED}


def changed(template: str, part: str, **keys: Any) -> str:
    """The sample with keys of its last entry changed; None takes one away."""
    found = json.loads(text_of(template, part))
    found[-1] = {key: value for key, value in (found[-1] | keys).items() if value is not None}
    return json.dumps(found)


@pytest.mark.parametrize(
    "keys",
    [{"mtu": None}, {"mtu": "1500"}, {"operstate": "SLEEPY"}, {"ifname": "lo"}, {"flags": "UP"}, {"addr_info": None}],
)
def test_links_that_are_not_as_we_know_them_are_refused(keys: dict[str, Any]) -> None:
    with pytest.raises(ParseError):
        read_addresses(changed("ip_address", "001_veth", **keys))


@pytest.mark.parametrize("text", ["{}", "[1]", "null", "Object not found", "[" * 100000, "1" * 5000])
def test_what_is_no_list_of_objects_is_refused(text: str) -> None:
    for read in (read_links, read_addresses, read_routes):
        with pytest.raises(ParseError):
            read(text)


def test_nothing_at_all_is_an_empty_list() -> None:
    assert (read_links(""), read_addresses("[{},{}]"), read_routes("[ ]\n")) == ((), (), ())


def test_links_without_carrier_and_their_addresses_are_down() -> None:
    levels = links_standing(read_addresses(text_of("ip_address", "001_veth")))
    assert (levels["link veth0"], levels["address veth0 10.9.1.1/32"]) == (Level.FAILED, Level.FAILED)
    assert (levels["link d0"], levels["link br0"]) == (Level.HEALTHY, Level.FAILED)


def test_routes_of_all_kinds() -> None:
    routes = {route.destination: route for route in read_routes(text_of("ip_route", "001_all_kinds"))}
    assert routes["198.51.100.0/24"].hops == (
        NextHop(device="d0", gateway="10.9.0.2"),
        NextHop(device="d0", gateway="10.9.0.3"),
    )
    assert (routes["203.0.113.0/24"].type, routes["203.0.113.0/24"].hops) == (RouteType.BLACKHOLE, ())
    assert (routes["default"].metric, set(routes["default"].devices)) == (100, {"d0"})
