"""`wg show` beside the dump of the same moment: what both can say, and what neither may let through."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dockyard.errors import ParseError
from dockyard.standing import Level
from tasks.wireguard.running import Running, agree, as_shown, bytes_of, read_dump, shown_bytes, standing
from tasks.wireguard.show import read_show
from tests.parsers.samples import Sample, samples_of

SECRET = "cE9fEtV0vvGLiP3LqdSP4oz8uVC1yvb3Kb/LPKWt4lE="
PUBLIC = "n2SBb3dC0eep6qdN8LVZ0VJDGCANQiDjrSzaNdqc0DQ="
OTHER = "oiCKdk17nITJEvmCutr3vzMEIICIgNw8rpVZvvooeC8="
NOW = 1_795_421_500
PEER = f"\npeer: {OTHER}\n  allowed ips: (none)\n"
INTERFACE = f"interface: wg0\n  public key: {PUBLIC}\n  private key: (hidden)\n  listening port: 51820\n"


def shown(peer: str = "", interface: str = INTERFACE) -> Running:
    return read_show(f"{interface}\npeer: {OTHER}\n  allowed ips: 10.10.0.1/32\n{peer}", NOW)


def age(words: str) -> int:
    return NOW - shown(f"  latest handshake: {words}\n").interfaces["wg0"].peers[OTHER].latest_handshake


@pytest.mark.parametrize("sample", samples_of("wg_show"), ids=str)
def test_text_and_dump_of_one_moment_agree(sample: Sample) -> None:
    now = sample.facts["now"]
    assert sample.machine
    text, dump = read_show(sample.text, now), read_dump(sample.machine)
    assert agree(text, dump, now + 2)
    assert all(agree(text, Running(interfaces={}), now) is False for _ in text.interfaces)


def test_byte_counts_compare_after_rounding() -> None:
    sample = next(one for one in samples_of("wg_show") if "100_all_units_clock_set_back__" in str(one))
    assert sample.machine
    now = sample.facts["now"]
    assert as_shown(read_dump(sample.machine), now) == read_show(sample.text, now)


@given(st.integers(0, 2**63))
def test_what_is_shown_of_a_byte_count_is_read_back(count: int) -> None:
    again = bytes_of(*shown_bytes(count))
    assert bytes_of(*shown_bytes(again)) == again
    assert abs(again - count) <= count * 0.01


@pytest.mark.parametrize(
    ("words", "seconds"),
    [
        ("Now", 0),
        ("1 second ago", 1),
        ("2 minutes ago", 120),
        ("1 hour, 1 second ago", 3601),
        ("1 year, 2 days, 3 hours, 1 minute, 4 seconds ago", 365 * 86400 + 2 * 86400 + 3 * 3600 + 64),
        ("(System clock wound backward; connection problems may ensue.)", -1),
    ],
)
def test_ages(words: str, seconds: int) -> None:
    assert age(words) == seconds


@pytest.mark.parametrize(
    "words",
    [
        "1 seconds ago",
        "2 second ago",
        "0 seconds ago",
        "1 second, 1 minute ago",
        "1 minute, 1 minute ago",
        "1 week ago",
    ],
)
def test_ages_that_wg_does_not_print(words: str) -> None:
    with pytest.raises(ParseError, match="not understood"):
        age(words)


@pytest.mark.parametrize(
    "text",
    [
        INTERFACE.replace("(hidden)", SECRET),
        INTERFACE + f"\npeer: {OTHER}\n  preshared key: {SECRET}\n  allowed ips: (none)\n",
        INTERFACE + f"\npeer: {OTHER}\n  secret key: {SECRET}\n  allowed ips: (none)\n",
        INTERFACE.replace("private key: (hidden)", f"private  key: {SECRET}"),
    ],
)
def test_a_key_that_is_not_hidden_is_refused_and_not_repeated(text: str) -> None:
    with pytest.raises(ParseError) as raised:
        read_show(text, NOW)
    assert SECRET not in str(raised.value)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (INTERFACE + INTERFACE.replace("wg0", "wg1"), "no blank line"),
        (INTERFACE + "\n" + INTERFACE, "repeats an interface"),
        (f"peer: {OTHER}\n  allowed ips: (none)\n", "no interface"),
        (INTERFACE + f"\npeer: {OTHER}\n  endpoint: 10.0.0.1:1\n", "no allowed ips"),
        (
            INTERFACE + PEER + PEER,
            "repeats a peer",
        ),
        (INTERFACE + PEER + "  endpoint: 10.0.0.1:1\n", "not at its place"),
        (INTERFACE.replace("  private key: (hidden)\n", ""), "one half"),
        (INTERFACE + "  endpoint: 10.0.0.1:1\n", "no peer"),
        (INTERFACE + PEER + "  fwmark: 0x1\n", "not at its place"),
    ],
)
def test_what_does_not_fit_together_is_refused(text: str, why: str) -> None:
    with pytest.raises(ParseError, match=why):
        read_show(text, NOW)


@pytest.mark.parametrize("end", ["", "\n\n"])
def test_a_cut_output_is_read_and_proves_nothing(end: str) -> None:
    running = read_show(INTERFACE.removesuffix("\n") + end, NOW)
    assert not running.complete
    assert set(standing(running, NOW).values()) == {Level.UNKNOWN}


def test_an_interface_that_could_not_be_asked_is_missing() -> None:
    said = "Unable to access interface wg1: Protocol not supported\n"
    assert not read_show(INTERFACE, NOW, stderr=said).complete
    assert not read_dump(f"wg0\t(hidden)\t{PUBLIC}\t51820\toff\n", stderr=said).complete


def test_one_interface_has_no_column_with_its_name() -> None:
    lines = f"(hidden)\t{PUBLIC}\t51820\toff\n{OTHER}\t(none)\t(none)\t10.10.0.1/32\t0\t0\t0\toff\n"
    assert read_dump(lines, interface="wg0") == shown()
    for wrong in (lines, f"wg0\t{lines}"):
        with pytest.raises(ParseError, match="column"):
            read_dump(wrong, interface="" if wrong == lines else "wg0")
    with pytest.raises(ParseError) as raised:
        read_dump(lines.replace("(hidden)", SECRET), interface="wg0")
    assert SECRET not in str(raised.value)


def test_levels() -> None:
    peer = f"wg0 {OTHER}"
    assert standing(shown(), NOW) == {"wg0": Level.HEALTHY, peer: Level.FAILED}
    assert standing(shown("  latest handshake: 2 minutes ago\n"), NOW)[peer] is Level.HEALTHY
    assert standing(shown("  latest handshake: 1 hour ago\n"), NOW)[peer] is Level.DEGRADED
    assert standing(read_show("interface: wg5\n", NOW), NOW) == {"wg5": Level.FAILED}
