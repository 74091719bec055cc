# SPDX-License-Identifier: MIT
"""GStreamer's RTSP server with a moving ball, for Debian's Python. Arguments: PORT USER PASSWORD.

Port 0 is any, and an empty user nobody in particular. It prints its port and serves until its input ends.
"""

import sys
import threading

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtspServer  # noqa: E402

FORMAT = "video/x-raw,format=I420,width=320,height=240,framerate=25/1"
LAUNCH = (
    f"( videotestsrc is-live=true pattern=ball ! {FORMAT} ! jpegenc ! rtpjpegpay name=pay0 pt=26 )"
)
ROLE = "viewer,media.factory.access=true,media.factory.construct=true"


def protect(server: object, factory: object, user: str, password: str) -> None:
    """Have everybody say who they are."""
    auth, token = GstRtspServer.RTSPAuth(), GstRtspServer.RTSPToken()
    token.set_string("media.factory.role", "viewer")
    auth.add_basic(GstRtspServer.RTSPAuth.make_basic(user, password), token)
    server.set_auth(auth)
    role = Gst.Structure.new_from_string(ROLE)
    factory.add_role_from_structure(role[0] if isinstance(role, tuple) else role)


def main(port: str, user: str, password: str) -> None:
    """Serve until standard input ends."""
    Gst.init(None)
    server, factory = GstRtspServer.RTSPServer(), GstRtspServer.RTSPMediaFactory()
    server.set_address("127.0.0.1")
    server.set_service(port)
    factory.set_launch(LAUNCH)
    factory.set_shared(True)
    server.get_mount_points().add_factory("/camera", factory)
    if user:
        protect(server, factory, user, password)
    server.attach(None)
    print(server.get_bound_port(), flush=True)
    loop = GLib.MainLoop()
    threading.Thread(target=lambda: (sys.stdin.read(), loop.quit()), daemon=True).start()
    loop.run()


if __name__ == "__main__":
    main(*sys.argv[1:])
