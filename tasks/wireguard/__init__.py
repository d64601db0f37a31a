"""WireGuard: a full mesh between all hosts, made from the inventory, checked by traffic. See docs/wireguard.md.

`WIREGUARD` is what is seen without touching anything, `REACH` pings through the mesh. Plans in order: `plan_keys`,
`plan_preshared_keys`, `plan_interface`, `plan_running`. A rotation is `plan_new_key`, `plan_swap`, `check_swap`,
`plan_settle`; `check_way_back` says whether one that was cut off is still undecided. `laptop_file` is
what a laptop needs to call the hosts.
"""

from tasks.wireguard.checks import check_mesh, check_swap
from tasks.wireguard.directions import Direction, directions, link_levels
from tasks.wireguard.laptop import laptop_file, laptop_named
from tasks.wireguard.plans import plan_interface, plan_keys, plan_preshared_keys, plan_running
from tasks.wireguard.reach import REACH, ReachState
from tasks.wireguard.rotation import plan_new_key, plan_settle, plan_swap
from tasks.wireguard.state import WIREGUARD, WireguardState
from tasks.wireguard.way_back import check_way_back

__all__ = [
    "REACH",
    "WIREGUARD",
    "Direction",
    "ReachState",
    "WireguardState",
    "check_mesh",
    "check_swap",
    "check_way_back",
    "directions",
    "laptop_file",
    "laptop_named",
    "link_levels",
    "plan_interface",
    "plan_keys",
    "plan_new_key",
    "plan_preshared_keys",
    "plan_running",
    "plan_settle",
    "plan_swap",
]
