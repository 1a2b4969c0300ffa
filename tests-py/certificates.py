"""Certificates for tests of TLS, made by the program openssl: `name.crt` and `name.key` in a folder."""

from __future__ import annotations

import subprocess
from pathlib import Path

from programs import HANG


def openssl(folder: Path, *arguments: str) -> None:
    done = subprocess.run(["openssl", *arguments], cwd=folder, capture_output=True, text=True, timeout=HANG)
    assert done.returncode == 0, done.stderr


def make_authority(folder: Path) -> None:
    """Writes an authority's certificate, `ca.crt`, and its key."""
    options = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", "ca.key"]
    openssl(folder, "req", "-x509", *options, "-subj", "/CN=authority", "-days", "2", "-out", "ca.crt")


def make_certificate(folder: Path, name: str) -> None:
    """Writes a certificate and its key, signed by the authority in the folder."""
    options = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", f"{name}.key"]
    openssl(folder, "req", *options, "-subj", f"/CN={name}", "-out", f"{name}.csr")
    (folder / "san").write_text("subjectAltName=IP:127.0.0.1\nbasicConstraints=CA:false\n")
    signer = ["-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2", "-extfile", "san"]
    openssl(folder, "x509", "-req", "-in", f"{name}.csr", *signer, "-out", f"{name}.crt")
