"""Test credentials, made on the spot: a certificate authority, a server certificate, and a key pair for every node."""

import datetime
import ipaddress
import secrets
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

VALID = datetime.timedelta(days=2)  # these are for one run; a real deployment brings its own


@dataclass(frozen=True)
class Credentials:
    """The files of one deployment, all in one folder that only its owner can read."""

    authority: Path  # the certificate that a node trusts
    certificate: Path  # the server's
    key: Path
    secret: Path  # shared by a Flower process and the executor that works for it
    nodes: tuple[Path, ...]  # private keys; the public key of each is beside it, with the suffix .pub


def make(folder: Path, nodes: int, host: str = "127.0.0.1") -> Credentials:
    """Write new credentials for a server at `host` (an IP address) and so many nodes."""
    folder.mkdir(mode=0o700, parents=True)
    root, own = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    authority = _certificate("dml test authority", root, "dml test authority", root, host, is_authority=True)
    certificate = _certificate("dml test server", own, "dml test authority", root, host, is_authority=False)
    made = Credentials(
        authority=folder / "authority.pem",
        certificate=folder / "server.pem",
        key=folder / "server.key",
        secret=folder / "executor.secret",
        nodes=tuple(folder / f"node-{index}" for index in range(nodes)),
    )
    made.authority.write_bytes(authority.public_bytes(serialization.Encoding.PEM))
    made.certificate.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    _secret(made.key, _private(own, serialization.PrivateFormat.PKCS8))
    _secret(made.secret, secrets.token_bytes(32))
    for place in made.nodes:
        key = ec.generate_private_key(ec.SECP384R1())
        _secret(place, _private(key, serialization.PrivateFormat.OpenSSH))
        public = key.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
        place.with_suffix(".pub").write_bytes(public)
    return made


def _certificate(name: str, key, issuer: str, issuer_key, host: str, is_authority: bool) -> x509.Certificate:
    now = datetime.datetime.now(datetime.UTC)
    names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address(host))]
    builder = (
        x509.CertificateBuilder()
        .subject_name(_name(name))
        .issuer_name(_name(issuer))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + VALID)
        .add_extension(x509.BasicConstraints(ca=is_authority, path_length=None), critical=True)
    )
    if not is_authority:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return builder.sign(issuer_key, hashes.SHA256())


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _private(key, form: serialization.PrivateFormat) -> bytes:
    return key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())


def _secret(place: Path, content: bytes) -> None:
    place.touch(mode=0o600)
    place.write_bytes(content)
