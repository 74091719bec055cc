# SPDX-License-Identifier: MIT
"""Stages that go wrong, in the emulators' base image."""

from __future__ import annotations

from typing import Any

from daemon_lab import Json

IMAGE = "operatord-python:bookworm"
HELLO = '{"type":"hello","stream":"x","width":16,"height":16,"format":"gray8","fps":1}'

# Says hello to all who come, and when asked for more than that does `harm()`.
_SERVER = f"""
import os, socket, threading, time
server = socket.create_server(("0.0.0.0", 12346))
def serve(connection):
    connection.sendall(b'''{HELLO}\\n''')
    if b"check" not in connection.recv(100):
        threading.Thread(target=harm).start()
    connection.recv(100)
def main():
    print("ready", flush=True)
    while True:
        threading.Thread(target=serve, args=server.accept()[:1]).start()
"""

PROGRAMS = {
    # Takes all the memory that it may have, and more.
    "eats": f"""{_SERVER}
def harm():
    block = []
    while True:
        block.append(bytearray(b"x" * (4 << 20)))
main()
""",
    # Has as many children as it may have, and goes on trying.
    "forks": f"""{_SERVER}
import signal
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
def harm():
    count = 0
    while True:
        try:
            if os.fork() == 0:
                time.sleep(1000)
            count += 1
        except OSError:
            print("refused after", count, flush=True)
            time.sleep(0.01)
main()
""",
    "never-binds": """
import time
print("still thinking", flush=True)
time.sleep(1000)
""",
    "garbage": """
import socket
server = socket.create_server(("0.0.0.0", 12346))
while True:
    connection, _ = server.accept()
    connection.sendall(b"220 smtp.example.org ready\\r\\n")
""",
}


def alone(program: str, **stage: Any) -> Json:
    """Return settings with a pipeline of one stage, which runs ``program``."""
    command = ["python3", "-I", "-S", "-c", PROGRAMS[program]]
    only = {"image": IMAGE, "port": 12346, "command": command, "memory": "64MiB", **stage}
    return {"pipelines": {"trouble": {"stages": {"only": only}}}}
