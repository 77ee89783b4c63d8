"""Files that Envoy reads: written whole, because it reads them again when one is renamed into place."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any, Final

import yaml

from mda.gateway.parts import load

SDS_FILE: Final = "sds.yaml"


def write_file(path: Path, content: bytes) -> Path:
    """Write a file by renaming it into place, so that no reader sees half of it.

    Parameters
    ----------
    path
        The file. Its directory is made if it is not there.
    content
        What it shall hold.

    Returns
    -------
    Path
        The file.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    scratch = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        scratch.chmod(0o644)
        scratch.replace(path)
    except BaseException:
        scratch.unlink(missing_ok=True)
        raise
    return path


def dump(document: dict[str, Any]) -> bytes:
    """Return a document as YAML, in the order that it was made in."""
    return yaml.safe_dump(document, sort_keys=False, width=120, allow_unicode=True).encode()


def sds_document(certificate: Path, key: Path) -> dict[str, Any]:
    """Return the SDS document that names the TLS listener's certificate.

    Parameters
    ----------
    certificate
        The certificate chain's file (PEM).
    key
        The private key's file (PEM).

    Returns
    -------
    dict
        The document. Envoy reads both files again when something is renamed into the
        certificate's directory.
    """
    return load("listeners/sds", certificate=str(certificate), key=str(key), directory=str(certificate.parent))


def write_sds(directory: Path, certificate: Path, key: Path) -> Path:
    """Write the SDS file that a TLS listener with `sds=directory` reads.

    Parameters
    ----------
    directory
        The directory of `GatewaySettings.sds`.
    certificate, key
        The PEM files. They need not exist yet; the listener refuses connections until
        they do.

    Returns
    -------
    Path
        The SDS file.
    """
    return write_file(directory / SDS_FILE, dump(sds_document(certificate, key)))
