"""DNS for the mesh: dnsmasq on one host answers for the names of hosts and services. See docs/services.md.

It is for pods and laptops; the hosts themselves go by /etc/hosts and never ask. `DNS` is the server, `ANSWERS` what
every host hears from it.
"""

from tasks.dns.answers import ANSWERS
from tasks.dns.checks import check_dns, check_port, hears_right
from tasks.dns.server import DNS, coredns_custom, plan_server, plan_tools

__all__ = ["ANSWERS", "DNS", "check_dns", "check_port", "coredns_custom", "hears_right", "plan_server", "plan_tools"]
