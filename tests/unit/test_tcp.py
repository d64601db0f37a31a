"""A name with several addresses, some of which nobody answers."""

from __future__ import annotations

import socket
import time

import pytest

from dockyard.tcp import QuickSocket, connect_tcp

DEAD, ALIVE = ("127.0.0.1", 1), ("127.0.0.1", 2)


@pytest.fixture
def addresses(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """What the name resolves to; `DEAD` uses up whatever time it is given."""
    found: list[tuple[str, int]] = []

    def connect(self: QuickSocket, address: tuple[str, int]) -> None:
        if address == DEAD:
            time.sleep(self.gettimeout() or 0)
            raise TimeoutError("timed out")

    family = (socket.AF_INET, socket.SOCK_STREAM, 0, "")
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: [(*family, address) for address in found])
    monkeypatch.setattr(QuickSocket, "connect", connect)
    return found


@pytest.mark.parametrize(("dead", "least_s", "most_s"), [(0, 0.0, 0.1), (1, 0.2, 0.5), (3, 0.4, 0.7)])
def test_a_dead_address_takes_only_its_share(
    addresses: list[tuple[str, int]], dead: int, least_s: float, most_s: float
) -> None:
    addresses += [DEAD] * dead + [ALIVE]
    started = time.monotonic()
    connect_tcp("dock-test", 22, started + 0.6).close()
    assert least_s <= time.monotonic() - started < most_s


def test_all_addresses_together_take_the_whole_time_and_no_more(addresses: list[tuple[str, int]]) -> None:
    addresses += [DEAD] * 3
    started = time.monotonic()
    with pytest.raises(TimeoutError):
        connect_tcp("dock-test", 22, started + 0.6)
    assert 0.5 < time.monotonic() - started < 0.9
