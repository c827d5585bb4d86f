"""What OpenSSL says to a client whose handshake has failed: that it needs a certificate, or a newer version of TLS.

asyncio and uvloop close the connection without sending it, so that the client is only told of a reset. Here the words
travel with the error. Decides nothing.
"""

from __future__ import annotations

import ssl
from typing import Any


class _SpokenObject(ssl.SSLObject):
    outgoing: ssl.MemoryBIO

    def do_handshake(self) -> None:
        try:
            super().do_handshake()
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError, ssl.SSLSyscallError):
            raise
        except ssl.SSLError as error:
            error.add_note(self.outgoing.read().hex())
            raise


class SpokenContext(ssl.SSLContext):
    """Its errors of the handshake hold the alert."""

    sslobject_class: type[ssl.SSLObject] = _SpokenObject

    def wrap_bio(self, incoming: ssl.MemoryBIO, outgoing: ssl.MemoryBIO, *args: Any, **options: Any) -> ssl.SSLObject:
        made = super().wrap_bio(incoming, outgoing, *args, **options)
        if isinstance(made, _SpokenObject):
            made.outgoing = outgoing
        return made


def alert_of(error: OSError) -> bytes:
    """What is to be sent to the client as it is; empty where there is nothing."""
    notes: list[str] = getattr(error, "__notes__", []) if isinstance(error, ssl.SSLError) else []
    return bytes.fromhex(notes[0]) if notes else b""
