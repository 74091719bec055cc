# SPDX-License-Identifier: MIT
"""The segmented session as the original describes it: who runs what, and knows whom by which name."""

from __future__ import annotations

IMAGES = {"probe": "demo-probe", "stream": "demo-stream", "segmentation": "demo-segmentation"}
ENV = {
    "probe": {"probe_ip": "probe", "probe_port": "12345", "count": "100000"},
    "stream": {
        "probe_ip": "probe",
        "probe_port": "12345",
        "stream_ip": "stream",
        "stream_port": "12346",
        "plain_stream": "False",
    },
    "segmentation": {
        "stream_ip": "stream",
        "stream_port": "12346",
        "segmentation_ip": "segmentation",
        "segmentation_port": "12347",
    },
}
PORT = 12347
"""Where the segmentation server serves, inside its container."""
