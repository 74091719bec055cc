# SPDX-License-Identifier: MIT
"""What the daemon has from its service manager and says to it: sockets, states, a status line, signs of life.

As in sd_notify(3) and sd_listen_fds(3), which others than systemd know, too. Without any, nothing is said.
"""
