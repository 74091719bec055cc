# SPDX-License-Identifier: MIT
"""`operatord build-images`: build the emulator images."""

from __future__ import annotations

import argparse
from typing import Any

from .exits import EXIT_FAILED, EXIT_USAGE, say
from .settings import endpoint_of


def add_build_images(commands: Any) -> None:
    """Add `operatord build-images` and its options."""
    text = (
        "Build the three emulator images on the container engine, which is found as the docker command finds "
        "it: $DOCKER_HOST, $DOCKER_CONTEXT, the current context, or a socket."
    )
    build = commands.add_parser("build-images", help="build the emulator images", description=text)
    build.add_argument(
        "--base", metavar="IMAGE",
        help="image with python3 to build on (default: the Dockerfiles' own; where no registry can "
        "be reached, one made with debootstrap)",
    )  # fmt: skip
    build.set_defaults(run=_build_images)


def _build_images(args: argparse.Namespace) -> int:
    endpoint = endpoint_of("docker")
    if endpoint is None:
        return EXIT_USAGE
    from operatord.engines.base import EngineUnavailable  # noqa: PLC0415
    from operatord.engines.docker.images import image_client  # noqa: PLC0415
    from operatord.images import ImageError, build_images  # noqa: PLC0415

    try:
        with image_client(endpoint) as client:
            build_images(client, args.base, say)
    except (ImageError, EngineUnavailable) as exc:
        say(str(exc))
        return EXIT_FAILED
    return 0
