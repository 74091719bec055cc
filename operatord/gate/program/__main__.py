# SPDX-License-Identifier: MIT
"""The process of the gate, started with ``python -IS operatord/gate/program DIRECTORY [LINGER]``.

Its standard input is the Unix socket ``gate.sock`` in that directory, on which the daemon speaks to it. It is
a process of its own, so that it outlives the daemon with its streams unbroken; it needs no packages, so that
it is there in no time and takes little memory. It ends when the daemon says so, or ``LINGER`` seconds after
nobody has needed it any more.
"""

import sys
from pathlib import Path

# In place of this folder, which is none to import from; last, so that the standard library comes first.
sys.path[:1] = []
sys.path.append(str(Path(__file__).resolve().parents[3]))

from operatord.gate.program.server import main  # noqa: E402

if __name__ == "__main__":
    main(*sys.argv[1:])
