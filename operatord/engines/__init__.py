# SPDX-License-Identifier: MIT
"""Where stages run. `base` is the interface; `docker` and `process` are the engines."""

import sys

# docker-py does without its own way by ssh where that cannot be imported. `docker_ssh` takes its place, and
# paramiko, which it would load where it is installed, takes a third of the time in which a daemon starts.
sys.modules.setdefault("docker.transport.sshconn", None)  # type: ignore[arg-type]  # as importing allows
