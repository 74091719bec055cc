# SPDX-License-Identifier: MIT
"""Ask for a segmented stream and say how well the segmentation finds what the probe drew."""

import sys

from operatord_client import Client, DaemonUnreachable

try:
    with Client() as client, client.start(count=100, env={"probe": {"fps": 100}}) as session:
        print("frames come from", session.location.url)
        scores = [frame.part("mask").dice for frame in session.frames()]
except DaemonUnreachable as exc:
    sys.exit(f"{exc}; is operatord running?")

print(f"{len(scores)} frames, mean Dice {sum(scores) / len(scores):.3f}")
