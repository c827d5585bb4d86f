"""Certificates for development: an authority, a server's and a client's certificate, as PEM files in one folder.

    python scripts/certs.py certs [--hosts gateway.internal,10.0.0.7] [--client notebooks]

The authority is kept over calls; the two certificates are made anew, valid for 90 days. A running gateway takes them up
at once. Not for production: the authority's key lies beside them.
"""

from __future__ import annotations

import argparse
import os
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import trustme

LOCAL = ("localhost", "127.0.0.1", "::1")
VALID_DAYS = 90


def make(folder: Path, hosts: list[str], client: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    authority = _authority(folder)
    until = datetime.now(UTC) + timedelta(days=VALID_DAYS)
    server = authority.issue_cert(*LOCAL, *hosts, common_name="model-gateway", not_after=until)
    visitor = authority.issue_cert(client, common_name=client, not_after=until)
    for name, issued in (("server", server), ("client", visitor)):
        chain = b"".join(blob.bytes() for blob in issued.cert_chain_pems)
        _write(folder / f"{name}.key", issued.private_key_pem.bytes(), 0o600)
        _write(folder / f"{name}.pem", chain, 0o644)


def _authority(folder: Path) -> trustme.CA:
    cert, key = folder / "ca.pem", folder / "ca.key"
    if cert.exists() and key.exists():
        return trustme.CA.from_pem(cert.read_bytes(), key.read_bytes())
    made = trustme.CA(organization_name="model-gateway", organization_unit_name="development")
    _write(key, made.private_key_pem.bytes(), 0o600)
    _write(cert, made.cert_pem.bytes(), 0o644)
    return made


def _write(path: Path, data: bytes, mode: int) -> None:
    """In one step, and a key is never readable for others, not even for a moment."""
    fresh = path.with_name(f"{path.name}.new")
    fresh.unlink(missing_ok=True)
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
        file.write(data)
    fresh.replace(path)


def main(words: list[str]) -> None:
    parser = argparse.ArgumentParser(description="Certificates for development.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--hosts", default="", help="Names and addresses beside this machine's, with commas.")
    parser.add_argument("--client", default="", help="The client's name. [development-client]")
    given = parser.parse_args(words)
    hosts = [host.strip() for host in given.hosts.split(",") if host.strip()]
    client = given.client or "development-client"
    make(given.folder, hosts, client)
    at = given.folder
    print(f"""{at}/ca.pem    the authority
{at}/server.*  for {", ".join((*LOCAL, *hosts))}
{at}/client.*  for {client}

in gateway.yaml:
  server:
    tls: {{cert: {at}/server.pem, key: {at}/server.key}}  # client_ca: {at}/ca.pem asks clients for theirs
    control_tls: {{cert: {at}/server.pem, key: {at}/server.key}}
then:
  model-gateway ask --ca {at}/ca.pem "Explain what rain is in one sentence."
  curl --cacert {at}/ca.pem --cert {at}/client.pem --key {at}/client.key https://127.0.0.1:8080/v1/models""")


if __name__ == "__main__":
    main(sys.argv[1:])
