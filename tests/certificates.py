"""Real certificates for tests: an authority, what it issues, and files that are replaced as operators replace them."""

from __future__ import annotations

import os
import ssl
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import grpc
import httpx
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

DAY = 86_400.0
LOCAL: tuple[x509.GeneralName, ...] = (
    x509.DNSName("localhost"),
    x509.IPAddress(ip_address("127.0.0.1")),
)
_PLAIN = serialization.NoEncryption()
_SIGNS = x509.KeyUsage(
    digital_signature=True,
    content_commitment=False,
    key_encipherment=False,
    data_encipherment=False,
    key_agreement=False,
    key_cert_sign=True,
    crl_sign=True,
    encipher_only=False,
    decipher_only=False,
)


def name_of(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


@dataclass
class Pair:
    """PEM texts."""

    cert: bytes
    key: bytes

    def write(self, folder: Path, name: str = "server") -> tuple[str, str]:
        """Each file is replaced in one step, one after the other."""
        paths = (folder / f"{name}.pem", folder / f"{name}.key")
        for path, text in zip(paths, (self.cert, self.key), strict=True):
            fresh = path.with_suffix(".new")
            fresh.write_bytes(text)
            os.replace(fresh, path)  # noqa: PTH105 (the point is the call)
        return str(paths[0]), str(paths[1])

    def swap_in(self, folder: Path, version: int) -> tuple[str, str]:
        """As Kubernetes mounts a secret: the files are links through `..data`, which is swapped for a new folder."""
        fresh = folder / f"..v{version}"
        fresh.mkdir()
        (fresh / "tls.crt").write_bytes(self.cert)
        (fresh / "tls.key").write_bytes(self.key)
        link = folder / "..data.new"
        link.symlink_to(fresh.name)
        os.replace(link, folder / "..data")  # noqa: PTH105
        for name in ("tls.crt", "tls.key"):
            if not (folder / name).is_symlink():
                (folder / name).symlink_to(f"..data/{name}")
        return str(folder / "tls.crt"), str(folder / "tls.key")


@dataclass
class Authority:
    """Issues for the validity asked for, in seconds from now."""

    name: str = "Test CA"
    _key: ec.EllipticCurvePrivateKey = field(default_factory=lambda: ec.generate_private_key(ec.SECP256R1()))

    def __post_init__(self) -> None:
        now = datetime.now(UTC)
        self._cert = (
            x509.CertificateBuilder()
            .subject_name(name_of(self.name))
            .issuer_name(name_of(self.name))
            .public_key(self._key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=1))
            .not_valid_after(now + timedelta(days=100))
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .add_extension(_SIGNS, critical=True)  # clients are strict about it from Python 3.13 on
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(self._key.public_key()), critical=False)
            .sign(self._key, hashes.SHA256())
        )

    @property
    def pem(self) -> bytes:
        return self._cert.public_bytes(serialization.Encoding.PEM)

    def write(self, folder: Path, name: str = "ca") -> str:
        path = folder / f"{name}.pem"
        path.write_bytes(self.pem)
        return str(path)

    def issue(
        self,
        common_name: str = "server",
        names: tuple[x509.GeneralName, ...] = LOCAL,
        *,
        since_s: float = -DAY,
        until_s: float = 90 * DAY,
    ) -> Pair:
        now, key = datetime.now(UTC), ec.generate_private_key(ec.SECP256R1())
        builder = (
            x509.CertificateBuilder()
            .subject_name(name_of(common_name))
            .issuer_name(self._cert.subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now + timedelta(seconds=since_s))
            .not_valid_after(now + timedelta(seconds=until_s))
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False)
        )
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        cert = builder.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
        return Pair(cert, pem_of(key))

    def http(self, port: int, client: tuple[str, str] | None = None) -> httpx.AsyncClient:
        """A client that trusts this authority, with a certificate of its own where one is given."""
        context = ssl.create_default_context(cadata=self.pem.decode())
        if client is not None:
            context.load_cert_chain(*client)
        return httpx.AsyncClient(base_url=f"https://127.0.0.1:{port}", verify=context, trust_env=False, timeout=20)

    def channel(self, port: int, client: Pair | None = None) -> grpc.aio.Channel:
        """Each with connections of its own."""
        own = (client.key, client.cert) if client is not None else (None, None)
        credentials = grpc.ssl_channel_credentials(self.pem, *own)
        return grpc.aio.secure_channel(
            f"127.0.0.1:{port}", credentials, options=[("grpc.use_local_subchannel_pool", 1)]
        )


def pem_of(key: ec.EllipticCurvePrivateKey, encryption: serialization.KeySerializationEncryption = _PLAIN) -> bytes:
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)
