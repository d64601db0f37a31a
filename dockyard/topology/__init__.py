"""The owner's cluster: read from an inventory, checked, typed and frozen.

`model` and `services` hold the types and what one can ask of them; `folder` reads the YAML files; `reading` and `shape`
turn Nornir's inventory into the types; `rules` and `service_rules` say what must be true of the cluster as a whole
(a `draft` of it), `names` of a single text.
"""

from dockyard.topology.folder import FolderInventory, folder_of, load_inventory
from dockyard.topology.model import (
    Backing,
    Backup,
    Cluster,
    DuringBackup,
    Email,
    Endpoint,
    FileSystem,
    Host,
    Keep,
    Mesh,
    Monitoring,
    Peer,
    Replication,
    Rest,
    Role,
    Sftp,
    Ssh,
    Sudo,
    Topology,
    Transport,
    Wan,
)
from dockyard.topology.reading import read_topology
from dockyard.topology.services import Dns, Exposed, Ollama, Protocol

__all__ = [
    "Backing",
    "Backup",
    "Cluster",
    "Dns",
    "DuringBackup",
    "Email",
    "Endpoint",
    "Exposed",
    "FileSystem",
    "FolderInventory",
    "Host",
    "Keep",
    "Mesh",
    "Monitoring",
    "Ollama",
    "Peer",
    "Protocol",
    "Replication",
    "Rest",
    "Role",
    "Sftp",
    "Ssh",
    "Sudo",
    "Topology",
    "Transport",
    "Wan",
    "folder_of",
    "load_inventory",
    "read_topology",
]
