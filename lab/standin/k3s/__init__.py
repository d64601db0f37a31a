"""A stand-in for K3s: one program, `k3s`, that speaks exactly what Dockyard uses of it, and nothing else.

`k3s server|agent` under systemd with the same options, config file and token; nodes that register over the mesh and
stop being ready when their agent dies; `k3s kubectl`; scheduling by selector, taints and the affinity of volumes; and
for a pod a process that serves the folder of its volume. There are no containers: images are never looked at, init
containers run as shell scripts with the volume mounted, and what is said between its parts is not Kubernetes' protocol.
"""

VERSION = "v1.33.5+standin"
"""What it calls its release; `lab.k3s` replaces it to make another one."""
