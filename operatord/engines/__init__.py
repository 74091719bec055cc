# SPDX-License-Identifier: MIT
"""Where stages run. `base` is the interface; `docker` and `process` are the engines."""

import sys

# Where docker-py cannot import its own ssh support, it does without it. `docker_ssh` takes its place, and
# paramiko, which it would load where it is installed, takes a third of the time in which a daemon starts.
sys.modules.setdefault("docker.transport.sshconn", None)  # type: ignore[arg-type]  # as importing allows
