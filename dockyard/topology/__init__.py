"""The owner's cluster: read from an inventory, checked, typed and frozen.

`model` and `services` hold the types and what one can ask of them; `folder` reads the YAML files; `reading` and `shape`
turn Nornir's inventory into the types; `rules` and the other `..._rules` say what must be true of the cluster as a
whole (a `draft` of it), `names` of a single text.
"""

from dockyard.topology.folder import FolderInventory, folder_of, load_inventory
from dockyard.topology.model import (
    Backing,
    Backup,
    Cluster,
    DuringBackup,
    Endpoint,
    FileSystem,
    Host,
    Keep,
    Laptop,
    Mesh,
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
from dockyard.topology.services import (
    Architecture,
    Dns,
    Email,
    Exposed,
    K3s,
    Monitoring,
    Ollama,
    OpenCloud,
    Protocol,
    VolumeRoot,
)

__all__ = [
    "Architecture",
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
    "K3s",
    "Keep",
    "Laptop",
    "Mesh",
    "Monitoring",
    "Ollama",
    "OpenCloud",
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
    "VolumeRoot",
    "Wan",
    "folder_of",
    "load_inventory",
    "read_topology",
]
