"""Readers of WireGuard. Ages are taken against one clock, `NOW`; ``now`` in the facts is the host's at that time."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from tasks.wireguard.running import Interface, PeerSeen, Running, at_rest, read_dump, shown_bytes, standing
from tasks.wireguard.show import read_show
from tests.parsers.readers import Answer, Reader
from tests.parsers.samples import Sample

NOW = 1_795_421_500


def of_interface(interface: Interface) -> dict[str, Any]:
    return {
        "fwmark": f"{interface.fwmark:#x}" if interface.fwmark else None,
        "has_private_key": bool(interface.public_key),
        "listen_port": interface.listen_port,
        "name": interface.name,
        "public_key": interface.public_key or None,
    }


def of_peer(peer: PeerSeen) -> dict[str, Any]:
    return {
        "allowed_ips": list(peer.allowed_ips),
        "endpoint": peer.endpoint or None,
        "has_preshared_key": peer.preshared,
        "keepalive_s": peer.keepalive_s or None,
        "public_key": peer.public_key,
    }


def dump_facts(running: Running, sample: Sample) -> Any:
    """The age against ``date_epoch`` is only in those facts that were recorded with it."""
    recorded = any("handshake_age_s_at_date_epoch" in p for one in sample.facts["interfaces"] for p in one["peers"])

    def exact(peer: PeerSeen) -> dict[str, Any]:
        handshake = peer.latest_handshake
        age = sample.facts["date_epoch"] - handshake if handshake else None
        counted = {"latest_handshake_epoch": handshake, "rx_bytes": peer.rx_bytes, "tx_bytes": peer.tx_bytes}
        return of_peer(peer) | counted | ({"handshake_age_s_at_date_epoch": age} if recorded else {})

    found = running.interfaces.values()
    return sample.facts | {
        "interfaces": [of_interface(one) | {"peers": [exact(peer) for peer in one.peers.values()]} for one in found]
    }


def show_facts(running: Running, sample: Sample) -> Any:
    def shown(peer: PeerSeen) -> dict[str, Any]:
        return of_peer(peer) | {
            "handshake_age_s": NOW - peer.latest_handshake if peer.latest_handshake else None,
            "rx_shown": " ".join(shown_bytes(peer.rx_bytes)),
            "tx_shown": " ".join(shown_bytes(peer.tx_bytes)),
        }

    # `wg show` sorts the peers by their last handshakes, the dump does not; the facts are in the dump's order.
    orders = {one["name"]: [peer["public_key"] for peer in one["peers"]] for one in sample.facts["interfaces"]}
    found = [
        of_interface(one) | {"peers": [shown(one.peers[key]) for key in orders.get(one.name, [])]}
        for one in running.interfaces.values()
        if set(one.peers) == set(orders[one.name])
    ]
    return {"interfaces": found, "now": sample.facts["now"]}


def dump_of_the_moment(text: str, sample: Sample) -> Running:
    """The dump with its handshakes moved from the clock of the host to `NOW`."""
    running = read_dump(text)
    ahead = NOW - sample.facts["now"]

    def moved(peer: PeerSeen) -> PeerSeen:
        return replace(peer, latest_handshake=peer.latest_handshake and peer.latest_handshake + ahead)

    interfaces = {
        name: replace(one, peers={key: moved(peer) for key, peer in one.peers.items()})
        for name, one in running.interfaces.items()
    }
    return replace(running, interfaces=interfaces)


def seed(sample: Sample, now: int) -> Any:
    """Clock and order of peers, for a sample that is being recorded."""
    found = read_dump(sample.machine or sample.text).interfaces.values()
    return {
        "date_epoch": now,
        "interfaces": [{"name": one.name, "peers": [{"public_key": key} for key in one.peers]} for one in found],
        "now": now,
    }


def words(running: Running) -> Iterable[str]:
    peers = [peer for interface in running.interfaces.values() for peer in interface.peers.values()]
    yield from ("no key" for interface in running.interfaces.values() if not interface.public_key)
    yield from ("never a handshake" for peer in peers if not peer.latest_handshake)
    yield from ("preshared key" for peer in peers if peer.preshared)
    yield from ("no allowed ips" for peer in peers if not peer.allowed_ips)
    yield from ("IPv6 endpoint" for peer in peers if peer.endpoint.startswith("["))
    yield from ("handshake in the future" for peer in peers if peer.latest_handshake > NOW)


def read_text(answer: Answer) -> Running:
    return read_show(answer.text, NOW, stderr=answer.stderr)


def read_machine(answer: Answer) -> Running:
    return read_dump(answer.text, stderr=answer.stderr)


READERS = [
    Reader(
        template="wg_show",
        command="wg show",
        read=read_text,
        seed=seed,
        facts=show_facts,
        standing=lambda running: standing(running, NOW),
        words=words,
        machine=dump_of_the_moment,
        comparable=lambda running: at_rest(running, NOW),
    ),
    Reader(
        template="wg_show_all_dump",
        command="wg show all dump",
        read=read_machine,
        seed=seed,
        facts=dump_facts,
        standing=lambda running: standing(running, NOW),
        words=words,
    ),
]
