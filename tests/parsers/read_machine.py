"""Readers of a machine's sockets, clock and links."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from dockyard.links import (
    Link,
    Route,
    links_standing,
    read_addresses,
    read_links,
    read_routes,
    routes_standing,
)
from tasks.machine.clock import (
    Chrony,
    TimeSettings,
    read_timedatectl,
    read_tracking,
    timedatectl_standing,
    tracking_standing,
)
from tasks.machine.sockets import Listening, read_sockets, sockets_standing
from tests.parsers.readers import Reader
from tests.parsers.samples import Sample


def sockets_facts(state: Listening, sample: Sample) -> Any:
    return [
        {
            "protocol": socket.protocol,
            "state": socket.state,
            "address": socket.address,
            "interface": socket.interface,
            "port": socket.port,
            "waiting": socket.waiting,
            "backlog": socket.backlog,
            "processes": [[process.name, process.pid, process.fd] for process in socket.processes],
        }
        for socket in state.sockets
    ]


def sockets_words(state: Listening) -> Iterable[str]:
    for socket in state.sockets:
        yield socket.state
        yield "process" if socket.processes else "no process"
        yield from ["bound to an interface"] if socket.interface else []


def tracking_facts(state: Chrony, sample: Sample) -> Any:
    found = state.tracking
    if found is None:
        return {"answering": False}
    return {
        "reference_id": found.reference_id,
        "reference": found.reference,
        "stratum": found.stratum,
        "ref_time": found.ref_time.isoformat(),
        "offset_s": found.offset_s,
        "last_offset_s": found.last_offset_s,
        "rms_offset_s": found.rms_offset_s,
        "frequency_ppm": found.frequency_ppm,
        "residual_ppm": found.residual_ppm,
        "skew_ppm": found.skew_ppm,
        "root_delay_s": found.root_delay_s,
        "root_dispersion_s": found.root_dispersion_s,
        "update_interval_s": found.update_interval_s,
        "leap": found.leap,
    }


def settings_facts(state: TimeSettings, sample: Sample) -> Any:
    said = {
        "Timezone": state.timezone,
        "LocalRTC": "yes" if state.rtc_in_local_time else "no",
        "CanNTP": "yes" if state.can_ntp else "no",
        "NTP": "yes" if state.ntp else "no",
        "NTPSynchronized": "yes" if state.synchronized else "no",
        "TimeUSec": state.time,
        "RTCTimeUSec": state.rtc_time,
    }
    return {name: value for name, value in said.items() if value}


def settings_words(state: TimeSettings) -> Iterable[str]:
    yield "synchronized" if state.synchronized else "waiting" if state.ntp else "no time service"


def links_facts(links: Sequence[Link], sample: Sample) -> Any:
    return [
        [
            link.index,
            link.name,
            sorted(link.flags),
            link.mtu,
            link.oper_state,
            link.link_type,
            link.master,
            [[one.family, one.local, one.prefix_length, one.scope, one.peer] for one in link.addresses],
        ]
        for link in links
    ]


def routes_facts(routes: Sequence[Route], sample: Sample) -> Any:
    return [
        [route.type, route.destination, [[hop.device, hop.gateway] for hop in route.hops], route.metric, route.source]
        for route in routes
    ]


READERS = [
    Reader(
        template="ss_listening",
        command="ss -H -ltnup",
        read=lambda answer: read_sockets(answer.text),
        facts=sockets_facts,
        standing=sockets_standing,
        words=sockets_words,
    ),
    Reader(
        template="chronyc_tracking",
        command="chronyc tracking",
        read=lambda answer: read_tracking(answer.text),
        facts=tracking_facts,
        standing=tracking_standing,
        words=lambda state: [state.tracking.leap] if state.tracking else ["not running"],
    ),
    Reader(
        template="timedatectl_show",
        command="timedatectl show",
        read=lambda answer: read_timedatectl(answer.text),
        facts=settings_facts,
        standing=timedatectl_standing,
        words=settings_words,
    ),
    Reader(
        template="ip_address",
        command="ip -j address show",
        read=lambda answer: read_addresses(answer.text),
        facts=links_facts,
        standing=links_standing,
        words=lambda links: [link.oper_state for link in links],
    ),
    Reader(
        template="ip_link",
        command="ip -j link show",
        read=lambda answer: read_links(answer.text),
        facts=links_facts,
        standing=links_standing,
        words=lambda links: [link.oper_state for link in links],
    ),
    Reader(
        template="ip_route",
        command="ip -j route show",
        read=lambda answer: read_routes(answer.text),
        facts=routes_facts,
        standing=routes_standing,
        words=lambda routes: [route.type for route in routes],
    ),
]
