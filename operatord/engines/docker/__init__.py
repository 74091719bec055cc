# SPDX-License-Identifier: MIT
"""Docker and Podman behind `engines.base`: the only folder, beside docker_host, that imports docker-py."""
