"""The owner's cluster: read from an inventory, checked, typed and frozen.

`model` holds the types and what one can ask of them; `folder` reads the YAML files; `reading` and `shape` turn Nornir's
inventory into the types; `rules` says what must be true of the cluster as a whole, `names` of a single text.
"""

from dockyard.topology.folder import FolderInventory, folder_of, load_inventory
from dockyard.topology.model import Cluster, Endpoint, Host, Mesh, Peer, Role, Ssh, Sudo, Topology, Transport
from dockyard.topology.reading import read_topology

__all__ = [
    "Cluster",
    "Endpoint",
    "FolderInventory",
    "Host",
    "Mesh",
    "Peer",
    "Role",
    "Ssh",
    "Sudo",
    "Topology",
    "Transport",
    "folder_of",
    "load_inventory",
    "read_topology",
]
