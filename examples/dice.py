# SPDX-License-Identifier: MIT
"""Ask for a segmented stream and say how well the segmentation finds what the probe drew."""

from operatord_client import Client

with Client() as client, client.start(count=100, env={"probe": {"fps": 100}}) as session:
    print("frames come from", session.location.url)
    scores = [frame.part("mask").dice for frame in session.frames()]

print(f"{len(scores)} frames, mean Dice {sum(scores) / len(scores):.3f}")
