"""Open a connection from inside the controller's network namespace, for SSH's ``ProxyCommand``.

OpenSSH is handed the connected socket itself (``ProxyUseFdpass``), so nothing is copied and this
process ends at once. A client that can't take one over (Paramiko) is relayed to. Standard library
only, and started once for every connection: it imports little.
"""

import selectors
import socket
import stat
import sys
from os import fstat, read, write

# A dead host answers nothing at all; SSH's own ConnectTimeout doesn't hold for a ProxyCommand.
TIMEOUT_SECONDS = 8


def main() -> int:
    """Connect to the host and port in the arguments."""
    host, port = sys.argv[1], int(sys.argv[2])
    try:
        connection = socket.create_connection((host, port), TIMEOUT_SECONDS)
    except OSError as error:
        print(f"{host} port {port}: {error}", file=sys.stderr)
        return 1
    connection.settimeout(None)
    if stat.S_ISSOCK(fstat(1).st_mode):
        with socket.socket(fileno=1) as caller:
            socket.send_fds(caller, [b"\0"], [connection.fileno()])
    else:
        _relay(connection)
    return 0


def _relay(connection: socket.socket) -> None:
    selector = selectors.DefaultSelector()
    selector.register(0, selectors.EVENT_READ)
    selector.register(connection, selectors.EVENT_READ)
    while True:
        for key, _ in selector.select():
            if key.fd == 0:
                if not (data := read(0, 65536)):
                    return
                connection.sendall(data)
            else:
                if not (data := connection.recv(65536)):
                    return
                while data:
                    data = data[write(1, data) :]


if __name__ == "__main__":
    sys.exit(main())
