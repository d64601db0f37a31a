"""The wire's decisions: when a frame comes out, on which machines, and which frames are dropped."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from lab.wire import DEFAULT_WAN, Link, Port, Shape, Wire

MACS = {
    name: bytes.fromhex(f"5254000002{number:02x}")
    for number, name in enumerate(("prod", "edge", "mirror", "dash"), start=1)
}
SITES = {"prod": "home", "edge": "home", "mirror": "dc", "dash": "vps"}
BROADCAST = b"\xff" * 6


def wire(*chances: float) -> Wire:
    numbers: Iterator[float] = iter(chances)
    ports = {name: Port(name, SITES[name], mac) for name, mac in MACS.items()}
    return Wire(ports, lambda: next(numbers, 0.999))


def frame(source: str, target: str | bytes, size: int = 100) -> bytes:
    destination = target if isinstance(target, bytes) else MACS[target]
    return (destination + MACS[source] + b"\x08\x00").ljust(size, b"\0")


def test_a_frame_to_another_site_takes_half_the_round_trip_and_its_own_time_on_the_line() -> None:
    ((due, target),) = wire().forward("prod", frame("prod", "mirror", 1250), 10.0)
    assert target == "mirror"
    assert due == pytest.approx(10.0 + 0.015 + 1250 * 8 / 50e6)


def test_inside_a_site_nothing_is_shaped() -> None:
    assert wire().forward("prod", frame("prod", "edge"), 10.0) == [(10.0, "edge")]


def test_a_broadcast_reaches_every_other_machine_with_the_delay_of_its_own_pair() -> None:
    due = {name: when for when, name in wire().forward("mirror", frame("mirror", BROADCAST), 0.0)}
    assert set(due) == {"prod", "edge", "dash"}
    assert due["dash"] == pytest.approx(0.005 + 100 * 8 / 200e6)
    assert due["prod"] == pytest.approx(0.015 + 100 * 8 / 50e6)


def test_an_unknown_address_is_flooded_until_it_has_spoken() -> None:
    virtual = bytes.fromhex("525400009999")
    segment = wire()
    assert len(segment.forward("prod", frame("prod", virtual), 0.0)) == 3
    segment.forward("edge", MACS["prod"] + virtual + b"\x08\x06" + bytes(46), 0.0)
    assert segment.forward("prod", frame("prod", virtual), 0.0) == [(0.0, "edge")]


def test_a_group_address_as_source_is_not_learned() -> None:
    segment = wire()
    segment.forward("edge", MACS["prod"] + BROADCAST + b"\x08\x00" + bytes(46), 0.0)
    assert len(segment.forward("prod", frame("prod", BROADCAST), 0.0)) == 3


def test_a_runt_is_dropped() -> None:
    assert wire().forward("prod", BROADCAST, 0.0) == []


def test_a_cut_drops_both_ways_and_only_that_pair() -> None:
    segment = wire()
    segment.cut(["prod", "edge"], ["mirror"])
    assert segment.forward("prod", frame("prod", "mirror"), 0.0) == []
    assert segment.forward("mirror", frame("mirror", "edge"), 0.0) == []
    assert segment.forward("prod", frame("prod", "edge"), 0.0) == [(0.0, "edge")]
    assert [name for _, name in segment.forward("mirror", frame("mirror", BROADCAST), 0.0)] == ["dash"]


def test_heal_of_one_pair_leaves_the_other_cuts() -> None:
    segment = wire()
    segment.cut(["prod"], ["mirror", "dash"])
    segment.heal(["mirror"], ["prod"])
    assert not segment.is_cut("prod", "mirror")
    assert segment.is_cut("dash", "prod")
    segment.heal()
    assert not segment.cuts


def test_a_cut_of_a_site_from_itself_separates_its_machines() -> None:
    segment = wire()
    segment.cut(["prod", "edge"], ["prod", "edge"])
    assert segment.cuts == {frozenset({"prod", "edge"})}


def test_the_rate_spaces_frames_out_and_the_queue_is_limited() -> None:
    link, shape = Link(), Shape(rate_bit_s=8000, queue_s=2.0)
    due = [link.offer(shape, 0.0, 1000, lambda: 0.5) for _ in range(5)]
    assert due == [1.0, 2.0, 3.0, None, None]
    assert link.dropped_by_queue == 2
    assert link.offer(shape, 10.0, 1000, lambda: 0.5) == 11.0


def test_machines_of_a_site_share_the_line_and_the_directions_do_not() -> None:
    segment = wire()
    segment.shapes[frozenset({"home", "dc"})] = Shape(rate_bit_s=8000, queue_s=10)
    assert segment.forward("prod", frame("prod", "mirror", 1000), 0.0) == [(1.0, "mirror")]
    assert segment.forward("edge", frame("edge", "mirror", 1000), 0.0) == [(2.0, "mirror")]
    assert segment.forward("mirror", frame("mirror", "prod", 1000), 0.0) == [(1.0, "prod")]


def test_loss_drops_the_frames_whose_number_falls_below_it() -> None:
    segment = wire(0.004, 0.006)
    segment.shapes[frozenset({"home", "dc"})] = Shape(loss=0.005)
    assert segment.forward("prod", frame("prod", "mirror"), 0.0) == []
    assert segment.forward("prod", frame("prod", "mirror"), 0.0) == [(0.0, "mirror")]
    assert segment.links["home", "dc"].dropped_by_loss == 1


def test_jitter_delays_but_keeps_the_order() -> None:
    link, shape = Link(), Shape(rtt_s=0.1, jitter_s=0.02)
    first = link.offer(shape, 0.0, 100, lambda: 0.9)
    second = link.offer(shape, 0.001, 100, lambda: 0.1)
    assert first == pytest.approx(0.05 + 0.018)
    assert second == first


def test_restore_heals_and_brings_the_default_wan_back() -> None:
    segment = wire()
    segment.cut(["prod"], ["mirror"])
    segment.shapes[frozenset({"home", "dc"})] = Shape(rtt_s=9)
    segment.restore()
    assert not segment.cuts
    assert segment.shape_of("dc", "home") == DEFAULT_WAN[frozenset({"home", "dc"})]


@pytest.mark.parametrize(
    "wrong", [{"loss": 1.5}, {"loss": -0.1}, {"rtt_s": -1}, {"jitter_s": -1}, {"rate_bit_s": -1}, {"queue_s": 0}]
)
def test_an_impossible_link_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="not a possible link"):
        Shape(**wrong)
