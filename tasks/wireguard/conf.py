"""The interface file of wg-quick(8) as it is seen: keys in it are hidden on the host, before anything leaves it.

Ours holds no secret. One that somebody made by hand usually does, and it may be the only place where that key lies.
"""

from __future__ import annotations

import shlex
from dataclasses import replace

from dockyard.files import FileState, read_file
from dockyard.remote import Command, Outputs

HIDDEN = "(hidden)"
_READ = r"""export LC_ALL=C
if [ -e {path} ] || [ -L {path} ]; then
  stat -L -c '%F|%a|%U|%G|%.9Y' -- {path} && if [ -f {path} ]; then sed -E {mask} -- {path}; fi
else
  echo absent
fi"""

_MASK = r"""s/((private|preshared)[[:space:]]*key[[:space:]]*=).*/\1 (hidden)/I
/^[[:space:]]*PublicKey[[:space:]]*=[^#]*$/Ib
/^PostUp = wg set %i peer [A-Za-z0-9+\/]{43}= preshared-key \/[^ ]*$/b
/^PostUp = WG_ENDPOINT_RESOLUTION_RETRIES=0 wg set %i peer [A-Za-z0-9+\/]{43}= endpoint [^ ]* [|]{2} true$/b
s/[A-Za-z0-9+\/]{43}=/(hidden)/g"""
"""For sed(1): the values of both keys, in comments too (wg(8) takes names in any case), and whatever else looks like
a key (a PostUp may pipe one into wg) unless it stands where public keys stand."""


def probe(path: str) -> Command:
    """`read_file` for an interface file: keys are hidden; its answer is turned into a state by `read`."""
    script = _READ.format(path=shlex.quote(path), mask=shlex.quote(_MASK))
    return replace(read_file(path), argv=("sh", "-c", script))


def read(outputs: Outputs, path: str) -> FileState:
    """The state that `probe(path)` recorded, with `HIDDEN` in the place of keys (and then without a digest).

    Raises:
        CommandFailed: the file is there but cannot be read.
        ParseError: stat(1) answered in a form that we do not know.
    """
    file = FileState.of(outputs, path)
    return replace(file, digest="") if HIDDEN in file.content else file
