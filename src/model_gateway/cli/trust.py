"""TLS of the commands that ask a running gateway: whom they trust, and the certificate that they show.

Decides nothing about a gateway's own certificates.
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from model_gateway.cli.output import CommandFailed

CA: Final = "MODEL_GATEWAY_CA"
CERT: Final = "MODEL_GATEWAY_CERT"
CERT_KEY: Final = "MODEL_GATEWAY_CERT_KEY"


@dataclass(frozen=True, slots=True)
class Trust:
    """PEM files. `ca`: authorities beside the usual ones; `cert` and `key`: what a gateway with mTLS asks for."""

    ca: Path | None = None
    cert: Path | None = None
    key: Path | None = None

    def context(self, *, same_machine: bool = False) -> ssl.SSLContext:
        """`same_machine`: its certificate need not name the address by which only this machine reaches it.

        Raises CommandFailed.
        """
        context = ssl.create_default_context()
        context.check_hostname = not same_machine
        try:
            if self.ca is not None:
                context.load_verify_locations(self.ca)
            if self.cert is not None:
                context.load_cert_chain(self.cert, self.key)
        except OSError as error:  # ssl.SSLError is one too
            reason = error.strerror or str(error)
            raise CommandFailed(
                f"a certificate cannot be used: {reason}",
                f"correct --ca, --cert, --cert-key ({CA}, {CERT}, {CERT_KEY})",
            ) from None
        return context


def remedy_for(error: Exception, otherwise: str) -> str:
    """What to do about a connection that did not come about."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"name the certificate's authority with --ca, or in {CA}"
    if isinstance(error, ssl.SSLError) and "CERTIFICATE_REQUIRED" in str(error).upper().replace(" ", "_"):
        return f"this gateway asks for a client's certificate: --cert and --cert-key, or {CERT} and {CERT_KEY}"
    return otherwise
