"""QEMU's command line, the machine table, the snapshot key, versions, and units on the command line."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from lab import snapshot
from lab.accel import accepted_version
from lab.cli import rate, share
from lab.errors import LabError
from lab.image import Image
from lab.machines import MACHINES, named_by, spec_of
from lab.qemu import Accel, Disks, Launch, Memory, qemu_arguments

IMAGE = Image("abc", Path("/images/abc"))


def launch(name: str, memory: Memory = Memory.PLAIN, accel: Accel = Accel.TCG) -> Launch:
    spec = spec_of(name)
    disks = Disks(Path("/run/root.qcow2"), Path("/run/data.qcow2") if spec.data_disk_mib else None)
    return Launch(spec, IMAGE, accel, Path("/run"), disks, Path("/seed.tar"), memory, Path("/snap/memory"))


def values(argv: list[str], option: str) -> list[str]:
    return [value for name, value in pairwise(argv) if name == option]


def test_ssh_is_forwarded_from_loopback_only_and_the_guest_cannot_leave() -> None:
    (management, cluster) = values(qemu_arguments(launch("dock-prod")), "-netdev")
    assert "hostfwd=tcp:127.0.0.1:22102-10.0.2.15:22" in management
    assert "restrict=on" in management
    assert cluster == "stream,id=cluster,server=off,addr.type=unix,addr.path=wire.sock"


def test_data_disk_and_watchdog_are_where_the_table_says() -> None:
    prod, dash = qemu_arguments(launch("dock-prod")), qemu_arguments(launch("dock-dash"))
    assert [value for value in values(prod, "-device") if "serial=data" in value]
    assert not [value for value in values(dash, "-device") if "serial=data" in value]
    assert "i6300esb" in values(prod, "-device")
    assert "i6300esb" not in values(dash, "-device")
    assert values(dash, "-m") == ["512M"]


@pytest.mark.parametrize(
    ("memory", "backend", "incoming"),
    [
        (Memory.PLAIN, "memory-backend-ram,id=ram,size=640M", []),
        (Memory.CAPTURE, "memory-backend-file,id=ram,size=640M,mem-path=/snap/memory,share=on", []),
        (Memory.RESTORE, "memory-backend-file,id=ram,size=640M,mem-path=/snap/memory,share=off", ["defer"]),
    ],
)
def test_a_restored_guest_never_writes_to_the_snapshots_memory(
    memory: Memory, backend: str, incoming: list[str]
) -> None:
    argv = qemu_arguments(launch("dock-load", memory))
    assert values(argv, "-object") == [backend]
    assert values(argv, "-incoming") == incoming


def test_emulation_bounds_the_translation_buffer() -> None:
    assert "tcg,thread=multi,tb-size=256" in qemu_arguments(launch("dock-load"))
    assert "kvm" in qemu_arguments(launch("dock-load", accel=Accel.KVM))


def test_addresses_ports_and_macs_are_unique() -> None:
    for kind in ("name", "ssh_port", "cluster_address", "management_mac", "cluster_mac"):
        assert len({getattr(spec, kind) for spec in MACHINES}) == len(MACHINES) == 5
    assert {spec.name: (spec.ssh_port, str(spec.cluster_address.ip)) for spec in MACHINES}["dock-edge"] == (
        22105,
        "10.99.0.15",
    )
    assert {spec.management_mac for spec in MACHINES}.isdisjoint(spec.cluster_mac for spec in MACHINES)


def test_a_place_is_a_machine_or_a_site() -> None:
    assert named_by("dc") == ("dock-mirror", "dock-load")
    assert named_by("dock-dash") == ("dock-dash",)
    with pytest.raises(LabError, match="neither a machine nor a site"):
        named_by("cellar")


def test_the_snapshot_key_follows_everything_that_a_restore_depends_on(monkeypatch: pytest.MonkeyPatch) -> None:
    def key(**changes: object) -> str:
        given = {
            "image": IMAGE,
            "accel": Accel.TCG,
            "version": "10.0",
            "processor": "x",
            "seeds": [b"a", b"b"],
        } | changes
        return snapshot.snapshot_key(**given)  # type: ignore[arg-type]  # one field at a time is replaced

    keys = {
        key(),
        key(image=Image("other", Path("/images/other"))),
        key(accel=Accel.KVM),
        key(version="10.1"),
        key(processor="y"),
        key(seeds=[b"ab", b""]),
        key(modules="a"),
        key(modules="b"),
    }
    larger = tuple(replace(spec, memory_mib=spec.memory_mib + 1) for spec in MACHINES)
    monkeypatch.setattr(snapshot, "MACHINES", larger)
    assert len(keys | {key()}) == 9


def test_a_new_snapshot_takes_the_place_of_old_ones_of_its_kind(tmp_path: Path) -> None:
    for name in ("old", "new", "half.partial", "old-modules", "half-modules.partial"):
        (tmp_path / name).mkdir()
    snapshot.remove_other_snapshots(snapshot.Snapshot(tmp_path / "new"))
    assert {path.name for path in tmp_path.iterdir()} == {"new", "old-modules", "half-modules.partial"}
    (tmp_path / "new-modules").mkdir()
    snapshot.remove_other_snapshots(snapshot.Snapshot(tmp_path / "new-modules"))
    assert {path.name for path in tmp_path.iterdir()} == {"new", "new-modules"}


def test_the_snapshot_key_does_not_depend_on_where_the_cache_is() -> None:
    keys = {snapshot.snapshot_key(Image("abc", Path(folder)), Accel.TCG, "10", "x", []) for folder in ("/a", "/b")}
    assert len(keys) == 1


def test_an_old_qemu_is_refused_with_the_command_that_helps() -> None:
    assert accepted_version("QEMU emulator version 10.0.2 (Debian 1:10.0.2+ds-2)\n") == "10.0.2"
    with pytest.raises(LabError, match="bookworm-backports"):
        accepted_version("QEMU emulator version 7.2.15 (Debian 1:7.2+dfsg-7)\n")
    with pytest.raises(LabError, match="unknown"):
        accepted_version("command not found")


@pytest.mark.parametrize(
    ("text", "bits"), [("20mbit", 20e6), ("500kbit", 500e3), ("1Gbit", 1e9), ("64000", 64000), ("9bit", 9)]
)
def test_rates_take_the_units_of_tc(text: str, bits: float) -> None:
    assert rate(text) == bits


@pytest.mark.parametrize(("text", "part"), [("0.5%", 0.005), ("0.25", 0.25), ("100%", 1)])
def test_shares_are_percentages_or_fractions(text: str, part: float) -> None:
    assert share(text) == pytest.approx(part)
