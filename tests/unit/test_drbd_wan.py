"""What a line costs: the numbers by hand, and what must hold for every line and load."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dockyard.errors import UsageError
from dockyard.topology import Wan
from tasks.drbd import advice, forecast, known, seed, sizing, wan
from tasks.drbd.line import LineState
from tasks.drbd.quantities import parse_size, size, span
from tasks.drbd.wan import Load

KIB, GIB, TIB = 1024, 1024**3, 1024**4
LINE = Wan(mbit=50, rtt_ms=30, share=0.5)
LOAD = Load(size_bytes=2 * TIB, write_mbit=5, burst_bytes=10 * GIB, outage_s=8 * 3600)
WHERE = advice.Where(resource="data", primary="dock-prod", secondary="dock-mirror")

SHARES = st.floats(0.01, 1)
LINES = st.builds(Wan, mbit=st.floats(0.1, 100_000), rtt_ms=st.floats(0.01, 5000), share=SHARES)
LOADS = st.builds(
    Load,
    size_bytes=st.none() | st.integers(4096, 1024**5),
    write_mbit=st.floats(0, 10_000),
    burst_bytes=st.integers(4096, 1024**5),
    outage_s=st.floats(1, 365 * 86400),
)
MORE = st.floats(1, 1000)


def test_the_numbers_of_a_home_line() -> None:
    # 50 Mbit/s are 6.25 MB/s; a resync gets 3051 KiB/s of it.
    sync = wan.full_sync(LINE, 2 * TIB)
    assert (sync.share_s / 86400, sync.line_s / 86400) == pytest.approx((8.15, 4.07), abs=0.01)
    burst = wan.burst(LINE, LOAD)
    assert (burst.behind_bytes, burst.ahead_bytes) == (512 * KIB, 10 * GIB)
    assert burst.behind_s == pytest.approx(512 * KIB / 6.25e6)
    assert burst.takes_s == pytest.approx((10 * GIB - 512 * KIB) / (6.25e6 - 0.625e6))
    assert burst.ahead_resync_s == pytest.approx(10 * GIB / (3051 * KIB))
    outage = wan.outage(LINE, LOAD)
    assert (outage.written_bytes, outage.least_bytes) == (18_000_000_000, 4096)
    assert 0 <= outage.most_bytes - outage.written_bytes < 4096
    assert outage.most_s == pytest.approx(outage.most_bytes / (3051 * KIB))
    lost = wan.disaster(LINE, LOAD)
    assert (lost.most_bytes, lost.usual_bytes) == (512 * KIB, round(0.625e6 * 0.015))
    assert lost.most_s == pytest.approx(512 * KIB / 6.25e6 + 0.015)
    assert wan.crash(LINE, 2 * TIB).bytes == 1340 * 4096 * KIB


def test_a_burst_that_fits_into_the_send_buffer_costs_no_time() -> None:
    burst = wan.burst(LINE, replace(LOAD, burst_bytes=100 * KIB))
    assert (burst.behind_bytes, burst.takes_s) == (100 * KIB, 0)


def test_a_full_line_never_lets_a_burst_through() -> None:
    assert wan.burst(LINE, replace(LOAD, write_mbit=50)).takes_s is None


def test_a_small_device_bounds_what_is_sent_again() -> None:
    small = replace(LOAD, size_bytes=GIB)
    assert wan.outage(LINE, small).most_bytes == GIB
    assert wan.outage(LINE, small).written_bytes == 18_000_000_000
    assert wan.crash(LINE, GIB).bytes == GIB


def test_nothing_written_needs_no_catch_up() -> None:
    outage = wan.outage(LINE, replace(LOAD, write_mbit=0))
    assert (outage.most_bytes, outage.least_s, outage.most_s, outage.down_share) == (0, 0, 0, 1)


@given(LINES, LOADS, MORE)
def test_more_rate_is_never_slower(line: Wan, load: Load, more: float) -> None:
    fast = replace(line, mbit=min(100_000, line.mbit * more))
    assert wan.line_bytes_s(fast) >= wan.line_bytes_s(line) * 0.9999
    assert wan.full_sync(fast, 2 * TIB).share_s <= wan.full_sync(line, 2 * TIB).share_s * 1.0001
    assert wan.outage(fast, load).most_s <= wan.outage(line, load).most_s * 1.0001
    rounding_s = KIB / wan.line_bytes_s(line)  # the send buffer is in whole KiB
    assert wan.disaster(fast, load).most_s <= wan.disaster(line, load).most_s * 1.0001 + rounding_s
    slow_takes, fast_takes = wan.burst(line, load).takes_s, wan.burst(fast, load).takes_s
    if slow_takes is not None:
        assert fast_takes is not None
        assert fast_takes <= slow_takes * 1.001 + 1e-6


@given(LINES, LOADS, MORE)
def test_more_work_is_never_done_sooner(line: Wan, load: Load, more: float) -> None:
    longer = replace(load, outage_s=load.outage_s * more, burst_bytes=round(load.burst_bytes * more))
    assert wan.outage(line, longer).most_bytes >= wan.outage(line, load).most_bytes
    assert wan.outage(line, longer).written_bytes >= wan.outage(line, load).written_bytes
    short, long = wan.burst(line, load), wan.burst(line, longer)
    assert long.behind_bytes >= short.behind_bytes
    assert (short.takes_s or 0) <= (long.takes_s if long.takes_s is not None else float("inf"))
    busier = replace(load, write_mbit=load.write_mbit * more)
    assert wan.outage(line, busier).down_share <= wan.outage(line, load).down_share


@given(LINES, LOADS, st.floats(1, 100))
def test_a_larger_share_never_makes_a_resync_slower(line: Wan, load: Load, more: float) -> None:
    large = replace(line, share=min(1, line.share * more))
    assert wan.outage(large, load).most_s <= wan.outage(line, load).most_s
    assert wan.full_sync(large, TIB).share_s <= wan.full_sync(line, TIB).share_s


@given(LINES, LOADS)
def test_bounds_are_bounds(line: Wan, load: Load) -> None:
    assert wan.resync_bytes_s(line) <= wan.line_bytes_s(line) * 1.0001 + KIB
    outage, lost, burst = wan.outage(line, load), wan.disaster(line, load), wan.burst(line, load)
    assert 0 <= outage.least_bytes <= outage.most_bytes < outage.written_bytes + wan.BLOCK
    assert outage.least_s <= outage.most_s
    assert load.size_bytes is None or outage.most_bytes <= load.size_bytes
    assert 0 <= lost.usual_bytes <= lost.most_bytes == sizing.send_buffer_kib(line) * KIB
    assert burst.behind_bytes <= lost.most_bytes
    sync = wan.full_sync(line, TIB)
    assert sync.line_s <= sync.share_s


@given(LINES, LOADS)
def test_every_line_and_load_can_be_told(line: Wan, load: Load) -> None:
    for question, answer in forecast.sentences(line, load, "dock-mirror"):
        assert question
        assert answer
    names = [name for name, _ in forecast.numbers(line, load)]
    assert len(names) == len(set(names))
    for finding in advice.advise(line, load, WHERE):
        assert finding.fault
        assert finding.evidence
        assert finding.advice


def faults(line: Wan, load: Load) -> list[str]:
    return [finding.fault for finding in advice.advise(line, load, WHERE)]


def test_a_good_line_needs_no_advice() -> None:
    assert faults(LINE, replace(LOAD, size_bytes=100 * GIB)) == []
    assert faults(LINE, replace(LOAD, size_bytes=None)) == []


@pytest.mark.parametrize(
    ("line", "load", "fault", "advised"),
    [
        (LINE, LOAD, "the initial sync takes days", "wan_plan.py --seed"),
        (LINE, LOAD, "the initial sync takes days", "--c-max-rate=6103k --c-min-rate=6103k data"),
        (LINE, replace(LOAD, write_mbit=60), "more is written than the line carries", "--write-mbit"),
        (
            replace(LINE, share=0.1),
            replace(LOAD, write_mbit=20),
            "a resync gets less than what is written",
            "share: 0.5",
        ),
        (replace(LINE, share=0.9), replace(LOAD, write_mbit=20), "do not fit into the line together", "share: 0.5"),
        (replace(LINE, share=0.5), replace(LOAD, write_mbit=40), "do not fit into the line together", "No share does"),
        (Wan(mbit=1000, rtt_ms=300), LOAD, "one connection cannot fill this line", "--mbit 280"),
    ],
)
def test_what_is_wrong_is_said_with_what_to_type(line: Wan, load: Load, fault: str, advised: str) -> None:
    found = [finding for finding in advice.advise(line, load, WHERE) if fault in finding.fault]
    assert found
    assert advised in found[0].advice


@given(LINES, st.floats(0.01, 0.44), st.sampled_from([0.01, 0.05, 0.95, 0.99]))
def test_the_advised_share_ends_the_advice(line: Wan, part: float, share: float) -> None:
    line = replace(line, mbit=min(max(line.mbit, 2), 10_000), share=share)  # above, DRBD's own limits count
    load = replace(LOAD, size_bytes=None, write_mbit=wan.line_bytes_s(line) * part * 8 / 1e6)
    for finding in advice.advise(line, load, WHERE):
        if "share: " in finding.advice:
            better = replace(line, share=float(finding.advice.partition("share: ")[2].partition(";")[0]))
            assert not [fault for fault in faults(better, load) if "resync" in fault]


@pytest.mark.parametrize(
    ("measured", "wrong"),
    [
        ({}, []),
        ({"mbit": 50.0, "rtt_ms": 30.0}, []),
        ({"mbit": 34.0, "rtt_ms": 44.0}, []),
        ({"mbit": 33.0}, ["wan.mbit is off by a factor of 1.5"]),
        (
            {"mbit": 100.0, "rtt_ms": 10.0},
            ["wan.mbit is off by a factor of 2.0", "wan.rtt_ms is off by a factor of 3.0"],
        ),
    ],
)
def test_an_inventory_that_is_off_is_named(measured: dict[str, float], wrong: list[str]) -> None:
    found = advice.compare(LINE, measured, WHERE)
    assert [finding.fault.removeprefix("the inventory's ") for finding in found] == wrong
    assert all("defaults.yaml" in finding.advice for finding in found)


def state(rtt_ms: float | None, **parts: float) -> LineState:
    given: dict[str, Any] = {"size_bytes": None, "written_bytes": None, "up_s": None, **parts}
    return LineState(sent=10, received=0 if rtt_ms is None else 10, rtt_ms=rtt_ms, **given)


def test_what_replicas_saw_is_gathered_with_the_worse_of_both() -> None:
    states = {
        "dock-prod": state(30.5, size_bytes=2 * TIB, written_bytes=1_250_000, up_s=10.0),
        "dock-mirror": state(31.5, size_bytes=TIB, written_bytes=9_999_999, up_s=1.0),
    }
    seen = known.gather("dock-prod", "dock-mirror", states)
    assert seen.rtts == {"dock-prod -> dock-mirror": 30.5, "dock-mirror -> dock-prod": 31.5}
    assert (seen.size_bytes, seen.write_mbit, seen.line()) == (TIB, 1.0, {"rtt_ms": 31.5})
    seen.rates = {"dock-prod -> dock-mirror": 40.0, "dock-mirror -> dock-prod": 90.0}
    assert seen.line() == {"rtt_ms": 31.5, "mbit": 40.0}


def test_nothing_seen_is_nothing_known() -> None:
    assert known.gather("dock-prod", "dock-mirror", {"dock-mirror": state(None)}) == known.Seen()


NO_OPTIONS: dict[str, float | None] = dict.fromkeys(("mbit", "rtt_ms", "share", "size", "write_mbit"))


def test_each_number_comes_from_its_best_source() -> None:
    seen = known.Seen(rtts={"a -> b": 31.5}, rates={"a -> b": 40.0}, size_bytes=TIB)
    found = known.settle(NO_OPTIONS | {"mbit": 10.0}, seen, LINE)
    assert {name: (one.value, one.source) for name, one in found.items()} == {
        "mbit": (10.0, "--mbit"),
        "rtt_ms": (31.5, "measured"),
        "share": (0.5, "inventory"),
        "size": (TIB, "the smaller disk of both"),
        "write_mbit": (1.0, "assumed; give --write-mbit"),
    }


def test_a_written_rate_of_zero_counts_as_given() -> None:
    assert known.settle(NO_OPTIONS | {"write_mbit": 0.0}, known.Seen(), LINE)["write_mbit"].source == "--write-mbit"


def test_a_line_that_nobody_knows_is_wrong_usage() -> None:
    with pytest.raises(UsageError) as raised:
        known.settle(NO_OPTIONS | {"mbit": 10.0}, known.Seen(), None)
    assert "--rtt-ms" in raised.value.advice
    assert "--mbit" not in raised.value.advice


SEED = seed.Seed(
    resource="data",
    minor=3,
    primary="dock-prod",
    secondary="dock-mirror",
    mount="/srv/data",
    disk="/dev/vg/data",
    target_disk="/dev/sdb",
    primary_id=2,
    secondary_id=1,
)


def commands(one: seed.Seed) -> list[str]:
    return [line for line in seed.procedure(one) if not line.startswith("#")]


def test_the_copy_by_disk_keeps_the_order_that_drbd_needs() -> None:
    typed = commands(SEED)
    clear = typed.index("drbdsetup new-current-uuid --clear-bitmap 3")
    again = typed.index("drbdsetup new-current-uuid 3")
    out = next(at for at, line in enumerate(typed) if line.startswith("dd if=/dev/vg/data "))
    back = next(at for at, line in enumerate(typed) if " of=/dev/sdb " in line)
    ids = next(at for at, line in enumerate(typed) if line.startswith("drbdmeta "))
    assert clear < out < again < back < ids < typed.index("drbdadm verify data")
    assert " internal restore-md" in typed[ids]
    assert "drbdadm disconnect data" in typed[:clear]  # DRBD refuses a new UUID on a device that is connected


def test_external_metadata_travels_too() -> None:
    typed = commands(replace(SEED, metadata="/dev/vg/meta", target_metadata="/dev/sdc"))
    assert any(line.startswith("dd if=/dev/vg/meta ") for line in typed)
    assert any(" of=/dev/sdc " in line for line in typed)
    assert any(" flex-external restore-md" in line for line in typed)


def test_the_metadata_that_travelled_gets_the_node_id_of_its_new_host() -> None:
    """What DRBD 9 dumps of dock-prod's disk (node 2), whose peers are dock-mirror (1) and the tie-breaker (0)."""
    (rewrite,) = [line for line in commands(SEED) if line.startswith("sed ")]
    dumped = "node-id 2;\npeer[0] {a}\npeer[1] {b}\npeer[2] {c}\n"
    script = rewrite.partition(" <")[0]
    ran = subprocess.run(["sh", "-c", script], input=dumped, capture_output=True, text=True, check=True)
    assert ran.stdout == "node-id 1;\npeer[0] {a}\npeer[2] {b}\npeer[1] {c}\n"


def test_what_is_for_the_person_fits_on_a_line() -> None:
    assert all(len(line) <= 120 for line in seed.procedure(SEED) if line.startswith("#"))


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("10", 10 * GIB),
        ("500G", 500 * GIB),
        ("1.5T", 1.5 * TIB),
        ("64MiB", 64 * KIB**2),
        ("64 mb", 64 * KIB**2),
        ("4k", 4096),
    ],
)
def test_sizes_are_read(text: str, count: float) -> None:
    assert parse_size(text) == count


@pytest.mark.parametrize("text", ["", "G", "-1G", "0", "1k", "nan", "inf", "1e3", "2P", "64B", "1.5.2G", "10 GG"])
def test_other_sizes_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is no"):
        parse_size(text)


@pytest.mark.parametrize(
    ("shown", "text"),
    [
        (size(512), "512 B"),
        (size(512 * KIB), "512.0 KiB"),
        (size(3 * GIB), "3.0 GiB"),
        (span(0.084), "0.084 s"),
        (span(85), "85 s"),
        (span(1800), "30.0 min"),
        (span(8 * 3600), "8.0 h"),
        (span(4.07 * 86400), "4.1 days"),
    ],
)
def test_amounts_are_shown_with_their_unit(shown: str, text: str) -> None:
    assert shown == text
