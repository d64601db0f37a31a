"""Servers and connections for these tests; every one of them needs sshd(8), so all are marked ``lab``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from dockyard.remote import close_all
from dockyard.topology import Host, Transport
from tests.ssh.sshd import Asking, Opening, Sshd, nornir_of


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.lab)
            item.add_marker(pytest.mark.ssh)


@pytest.fixture
def opening() -> Iterator[Opening]:
    """Makes an `Asking` for a host; all connections are closed at the end."""
    opened: list[Asking] = []

    def make(host: Host) -> Asking:
        opened.append(Asking(nornir_of(host), host))
        return opened[-1]

    yield make
    for asking in opened:
        close_all(asking.nornir)


@pytest.fixture(params=list(Transport))
def lane(request: pytest.FixtureRequest) -> Transport:
    """Each test that asks for it runs over both kinds of connection."""
    chosen: Transport = request.param
    return chosen


@pytest.fixture(scope="session")
def shared_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    """A server for tests that only run commands."""
    server = Sshd(tmp_path_factory.mktemp("sshd"))
    yield server
    server.stop()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Sshd]:
    """A server that the test may break."""
    server = Sshd(tmp_path)
    yield server
    server.stop()
