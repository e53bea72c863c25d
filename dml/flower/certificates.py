"""Test credentials, made on the spot: a certificate authority, a server certificate, and a key pair for every node."""

import datetime
import secrets
from dataclasses import dataclass
from pathlib import Path

import trustme
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

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
    made = Credentials(
        authority=folder / "authority.pem",
        certificate=folder / "server.pem",
        key=folder / "server.key",
        secret=folder / "executor.secret",
        nodes=tuple(folder / f"node-{index}" for index in range(nodes)),
    )
    authority = trustme.CA(organization_name="dml test authority")
    server = authority.issue_cert("localhost", host, not_after=datetime.datetime.now(datetime.UTC) + VALID)
    authority.cert_pem.write_to_path(made.authority)
    for number, blob in enumerate(server.cert_chain_pems):
        blob.write_to_path(made.certificate, append=number > 0)
    _secret(made.key, server.private_key_pem.bytes())
    _secret(made.secret, secrets.token_bytes(32))
    for place in made.nodes:
        key = ec.generate_private_key(ec.SECP384R1())
        form = serialization.PrivateFormat.OpenSSH
        _secret(place, key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()))
        public = key.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
        place.with_suffix(".pub").write_bytes(public)
    return made


def _secret(place: Path, content: bytes) -> None:
    place.touch(mode=0o600)
    place.write_bytes(content)
