# SPDX-License-Identifier: MIT
"""Opens standard input, output and error if the program was started without, as by ``2>&-`` or a bare
``execve``. Otherwise the next file or socket that it opens would get one of their numbers, and a child
process or a C library that writes there would write into a peer's stream.
"""

from __future__ import annotations

import contextlib
import os


def open_closed_ones() -> None:
    """Open the null device as each of the descriptors 0 to 2 that is closed. To be called before all else.

    `sys.stdin`, `sys.stdout` and `sys.stderr` stay None: whoever asks can still tell. Where there is no null
    device, as in a bare chroot, nothing is changed.
    """
    with contextlib.suppress(OSError):
        # The system gives the lowest number that is free.
        while (opened := os.open(os.devnull, os.O_RDWR)) <= 2:
            os.set_inheritable(opened, True)
        os.close(opened)
