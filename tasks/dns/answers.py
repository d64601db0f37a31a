"""What each host hears when it asks the DNS server for every name, over the mesh.

No tool that can ask a given server is on every Debian (dig and host are in bind9-host). perl-base is: it is essential
(Debian Policy, section 3.8). So we make the messages, and a few lines of Perl only send them and print what comes back;
one process for all names, each asked again after a second of silence, three times in all.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from dockyard.observe import Domain
from dockyard.parsing import Printed, Row
from dockyard.remote import Command, Outputs
from dockyard.topology import Host, Topology
from tasks.dns.message import Reply, question, read_reply

PROBE = "dns answers"
_ASK = r"""use Socket; $| = 1;
my ($to, $port, %open) = (shift, shift, map { substr($_, 0, 4), $_ } @ARGV);
socket(my $s, PF_INET, SOCK_DGRAM, 0) or die "$!\n";
connect($s, sockaddr_in($port, inet_aton($to))) or die "$!\n";
TRY: for (1 .. 3) {
  for (values %open) { defined send($s, pack("H*", $_), 0) or do { print "error|$!\n"; last TRY } }
  while (%open) {
    my $waiting = "";
    vec($waiting, fileno $s, 1) = 1;
    select($waiting, undef, undef, 1) or last;
    defined recv($s, my $reply, 4096, 0) or do { print "error|$!\n"; last TRY };
    my $hex = unpack "H*", $reply;
    print "reply|$hex\n" if delete $open{substr $hex, 0, 4};
  }
  last unless %open;
}"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answers:
    """``replies`` by full name. ``error`` is why nothing more was heard, as the system says it ("Connection refused").

    A name without a reply and without an error: nobody answered within three seconds.
    """

    replies: Mapping[str, Reply]
    error: str = ""


def wanted(topology: Topology) -> dict[str, str]:
    """The mesh address of every full name."""
    return {topology.fqdn(name): str(address) for name, address in topology.addresses()}


def _probes(topology: Topology, _host: Host) -> Sequence[Command]:
    server = topology.dns_host
    if server is None:
        return []
    messages = [question(number, name).hex() for number, name in enumerate(wanted(topology), 1)]
    argv = ("perl", "-e", _ASK, str(server.wireguard.address), "53", *messages)
    return [Command(PROBE, ("env", "LC_ALL=C", *argv), timeout_s=30)]


def _read(topology: Topology, _host: Host, outputs: Outputs) -> Answers:
    return read_answers(outputs.text(PROBE), list(wanted(topology)))


def read_answers(text: str, names: Sequence[str]) -> Answers:
    """What the probe printed, for questions that were numbered from 1 in the order of ``names``.

    Raises:
        ParseError: an unknown line, or a message that is no reply to a question of ours.
    """
    printed = Printed(PROBE, text)
    rows = printed.rows("dns_answers")
    replies = {}
    for row in rows:
        if row["reply"]:
            reply = _reply(printed, row, len(names))
            replies[names[reply.number - 1]] = reply
    return Answers(replies=replies, error=next((row["error"] for row in rows if row["error"]), ""))


def _reply(printed: Printed, row: Row, count: int) -> Reply:
    reply = read_reply(bytes.fromhex(row["reply"]))
    if not 1 <= reply.number <= count:
        raise printed.error(row.line_number, "answers a question that was not asked")
    return reply


ANSWERS = Domain("DNS answers", _probes, _read, lambda topology, _host: topology.dns_host is not None)
