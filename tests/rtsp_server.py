# SPDX-License-Identifier: MIT
"""GStreamer's RTSP server with a moving ball, for Debian's Python. Arguments: PORT USER PASSWORD, and for
TLS the files CERTIFICATE KEY.

Port 0 is any, and an empty user nobody in particular. It prints its port and serves until its input ends.
"""

import sys
import threading

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import Gio, GLib, Gst, GstRtspServer  # noqa: E402

FORMAT = "video/x-raw,format=I420,width=320,height=240,framerate=25/1"
LAUNCH = (
    f"( videotestsrc is-live=true pattern=ball ! {FORMAT} ! jpegenc ! rtpjpegpay name=pay0 pt=26 )"
)
ROLE = "viewer,media.factory.access=true,media.factory.construct=true"


def protect(server: object, factory: object, user: str, password: str, tls: tuple) -> None:
    """Have everybody say who they are, if there is a user, and speak TLS, if there is a certificate."""
    auth, token = GstRtspServer.RTSPAuth(), GstRtspServer.RTSPToken()
    token.set_string("media.factory.role", "viewer")
    if user:
        auth.add_basic(GstRtspServer.RTSPAuth.make_basic(user, password), token)
    else:
        auth.set_default_token(token)
    if tls:
        auth.set_tls_certificate(Gio.TlsCertificate.new_from_files(*tls))
    server.set_auth(auth)
    role = Gst.Structure.new_from_string(ROLE)
    factory.add_role_from_structure(role[0] if isinstance(role, tuple) else role)


def main(port: str, user: str, password: str, *tls: str) -> None:
    """Serve until standard input ends."""
    Gst.init(None)
    server, factory = GstRtspServer.RTSPServer(), GstRtspServer.RTSPMediaFactory()
    server.set_address("127.0.0.1")
    server.set_service(port)
    factory.set_launch(LAUNCH)
    factory.set_shared(True)
    server.get_mount_points().add_factory("/camera", factory)
    if user or tls:
        protect(server, factory, user, password, tls)
    server.attach(None)
    print(server.get_bound_port(), flush=True)
    loop = GLib.MainLoop()
    threading.Thread(target=lambda: (sys.stdin.read(), loop.quit()), daemon=True).start()
    loop.run()


if __name__ == "__main__":
    main(*sys.argv[1:])
