"""The owner's cluster: read from an inventory, checked, typed and frozen.

`model` holds the types and what one can ask of them; `folder` reads the YAML files; `reading` and `shape` turn Nornir's
inventory into the types; `rules` says what must be true of the cluster as a whole, `names` of a single text.
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

__all__ = [
    "Backing",
    "Backup",
    "Cluster",
    "DuringBackup",
    "Email",
    "Endpoint",
    "FileSystem",
    "FolderInventory",
    "Host",
    "Keep",
    "Mesh",
    "Monitoring",
    "Peer",
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
