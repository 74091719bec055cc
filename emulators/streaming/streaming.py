#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Serve a probe's stream to any number of consumers.

It takes pictures of gray8, gray16le and rgb24, and passes them on as they are. As YUV4MPEG2 they are
Cmono, Cmono16 and C444, the last in BT.601's limited range.

Settings, all from the environment:

    probe_ip           name or address of the probe                      (probe)
    probe_port         its port                                          (12345)
    stream_ip          name or address to listen on                      (0.0.0.0)
    stream_port        port to listen on, 0 for any free one             (12346)
    plain_stream       True: the consumers are people's programs; False: segmentation, which is
                       always served json                                (True)
"""

from __future__ import annotations

import sys

from operatord_stage.dialect import StreamFormat
from operatord_stage.relay import Relay
from operatord_stage.sockets import listen
from operatord_stage.source import connect, rehearse
from operatord_stage.stage import run, switch
from operatord_stage.terms import TERMS_HELP, Settings, Terms

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable


def serve(last_words: list[Callable[[], None]]) -> None:
    """Relay one stream from its hello to its end."""
    settings = Settings(("probe", 12345), ("stream", 12346))
    if not switch("plain_stream", "true"):
        settings.y4m = False  # segmentation is the one who reads
    listener = listen("stream", settings.host, settings.port, settings.connect_timeout)
    source = connect(settings)
    terms = Terms("stream", settings, source.hello)
    Relay(source, listener, terms, terms.wire.passed_on).run(last_words)


if __name__ == "__main__":
    passed_on = StreamFormat().passed_on
    sys.exit(
        run("streaming", __doc__ + TERMS_HELP, serve, lambda: rehearse(lambda _hello: passed_on))
    )
