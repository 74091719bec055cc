# SPDX-License-Identifier: MIT
"""The least that a control plane could be: an `asyncio.Protocol` that decodes and encodes each line.

No limits, no checks, no methods: what is left of it is the event loop, the socket and msgspec.
"""

from __future__ import annotations

import asyncio

import msgspec

decode = msgspec.json.Decoder().decode
encode = msgspec.json.Encoder().encode


class Echo(asyncio.Protocol):
    """Answer each line with itself, one joined write for each read."""

    transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.rest = b""

    def data_received(self, data: bytes) -> None:
        lines = (self.rest + data).split(b"\n")
        self.rest = lines.pop()
        if lines:
            self.transport.write(b"\n".join([encode(decode(line)) for line in lines]) + b"\n")


async def main() -> None:
    """Serve until the process is ended."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Echo, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    print(f"listening on {host}:{port}", flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
