"""Every address but this machine's own is refused to the Python that imports this at its start.

An audit hook instead of pytest-socket, as Python imports a sitecustomize.py that is on PYTHONPATH: the
processes that tests start are held to it too. What it raises is what a machine without a network raises.
"""

import sys

LOCAL = {None, "", "localhost", "127.0.0.1", "::1"}


def refuse(event, arguments):
    if event in ("socket.connect", "socket.sendto", "socket.sendmsg"):
        # Unix sockets' addresses are no tuples, netlink's are tuples of numbers.
        host = arguments[1][0] if isinstance(arguments[1], tuple) else None
    elif event in ("socket.getaddrinfo", "socket.gethostbyname"):
        host = arguments[0]
    else:
        return
    host = host.decode() if isinstance(host, bytes) else host
    if isinstance(host, str | None) and host not in LOCAL:
        raise OSError(f"tests have no network; got {host!r}, expected this machine")


sys.addaudithook(refuse)
