"""DRBD's numbers stay within DRBD's limits, whatever the line, and mean what their reasons say."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dockyard.topology import Wan
from tasks.drbd import sizing

LINES = st.builds(
    Wan,
    mbit=st.floats(0.01, 100_000),
    rtt_ms=st.floats(0.01, 5000),
    share=st.floats(0.01, 1),
)
LIMITS = {  # drbd.conf(5): least and most, in the unit of the file
    "ping-timeout": (1, 300),
    "sndbuf-size": (32, 10 * 1024),
    "c-plan-ahead": (1, 300),
    "c-fill-target": (1, 524_288),
    "c-max-rate": (1, 4 * 1024 * 1024),
    "c-min-rate": (1, 4 * 1024 * 1024),
    "al-extents": (67, 6433),
}


@given(LINES)
def test_every_number_is_one_that_drbd_takes(wan: Wan) -> None:
    for setting in sizing.net_settings(wan) + sizing.disk_settings(wan):
        if setting.name in LIMITS:
            least, most = LIMITS[setting.name]
            assert least <= int(setting.value.removesuffix("k")) <= most, setting


@pytest.mark.parametrize(
    ("wan", "net", "disk"),
    [
        (
            Wan(mbit=50, rtt_ms=30, share=0.5),
            "ping-timeout 20, sndbuf-size 512k, on-congestion block",
            "c-plan-ahead 20, c-fill-target 367k, c-max-rate 3051k, c-min-rate 3051k, al-extents 1340",
        ),
        (
            Wan(mbit=10, rtt_ms=600, share=0.8),
            "ping-timeout 34, sndbuf-size 1465k, on-congestion block",
            "c-plan-ahead 30, c-fill-target 1465k, c-max-rate 976k, c-min-rate 976k, al-extents 428",
        ),
        (
            Wan(mbit=50, rtt_ms=30, share=0.8, crash_resync_min=1.5),
            "ping-timeout 20, sndbuf-size 512k, on-congestion block",
            "c-plan-ahead 20, c-fill-target 367k, c-max-rate 4882k, c-min-rate 4882k, al-extents 107",
        ),
    ],
    ids=["home to data centre", "satellite", "a short resync after a crash"],
)
def test_numbers_of_a_line(wan: Wan, net: str, disk: str) -> None:
    for settings, values in ((sizing.net_settings(wan), net), (sizing.disk_settings(wan), disk)):
        assert ", ".join(f"{setting.name} {setting.value}" for setting in settings) == values
        assert all(setting.reason for setting in settings)
