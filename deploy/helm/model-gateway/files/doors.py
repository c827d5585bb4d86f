"""Asks a release's Services whether somebody answers: run by `helm test`, in the gateway's image. Costs nothing."""

import os
import socket
import ssl
import sys
import urllib.error
import urllib.request

TIMEOUT_S = 10


def ask(url: str) -> None:
    context = ssl.create_default_context()
    # Whether its name is right is the callers' to see: this only asks whether somebody answers.
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT_S, context=context) as reply:  # noqa: S310 (ours)
            sys.stdout.write(f"{url}: {reply.status}\n")
    except urllib.error.HTTPError as error:
        sys.exit(f"{url}: {error.code} {error.read().decode(errors='replace')}")
    except OSError as error:
        sys.exit(f"{url}: {error}")


def connect(address: str) -> None:
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), TIMEOUT_S).close()
    except OSError as error:
        sys.exit(f"{address}: {error}")
    sys.stdout.write(f"{address}: connected\n")


for url in os.environ["URLS"].split():
    ask(url)
for address in os.environ["ADDRESSES"].split():
    connect(address)
