# SPDX-License-Identifier: MIT
"""`operatord build-images`: build the images that come with operatord."""

from __future__ import annotations

import argparse
from typing import Any

from operatord import recipes

from .exits import EXIT_FAILED, EXIT_USAGE, say
from .settings import endpoint_of

_NAMES = f"of these: {', '.join(map(recipes.short_name, recipes.RECIPES))}; or all"


def add_build_images(commands: Any) -> None:
    """Add `operatord build-images` and its options."""
    text = (
        "Build images on the container engine, which is found as the docker command finds it: $DOCKER_HOST, "
        "$DOCKER_CONTEXT, the current context, or a socket. Without a name: the emulators and the image that "
        "stages of your own stand on, which need nothing but the base. Others install packages of Debian."
    )
    build = commands.add_parser("build-images", help="build the images", description=text)
    build.add_argument("names", metavar="NAME", nargs="*", help=_NAMES)
    build.add_argument(
        "--base", metavar="IMAGE",
        help="image with python3 to build on (default: the Dockerfiles' own; where no registry can "
        "be reached, one made with debootstrap)",
    )  # fmt: skip
    build.set_defaults(run=_build_images)


def _build_images(args: argparse.Namespace) -> int:
    try:
        names = recipes.chosen(args.names)
    except ValueError as exc:
        say(str(exc))
        return EXIT_USAGE
    endpoint = endpoint_of("docker")
    if endpoint is None:
        return EXIT_USAGE
    from operatord.engines.base import EngineUnavailable  # noqa: PLC0415
    from operatord.engines.docker.images import image_client  # noqa: PLC0415
    from operatord.images import ImageError, build_images  # noqa: PLC0415

    try:
        with image_client(endpoint) as client:
            build_images(client, args.base, say, names)
    except (ImageError, EngineUnavailable) as exc:
        say(str(exc))
        return EXIT_FAILED
    return 0
