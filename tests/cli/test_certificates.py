"""The local CA and the gateway's certificate."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509

from mda.cli import certificates
from mda.cli.certificates import ensure_certificates


def _load(path: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate(path.read_bytes())


def test_the_certificate_is_of_the_ca_and_for_this_machine(tmp_path: Path) -> None:
    ensure_certificates(tmp_path)
    ca, leaf = _load(tmp_path / "ca.crt"), _load(tmp_path / "tls.crt")
    leaf.verify_directly_issued_by(ca)
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["localhost"]
    assert [str(address) for address in names.get_values_for_type(x509.IPAddress)] == ["127.0.0.1", "::1"]
    assert (tmp_path / "tls.key").stat().st_mode & 0o777 == 0o600


def test_a_good_certificate_stays_and_one_about_to_end_goes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(certificates, "_LIFE", timedelta(days=20))
    ensure_certificates(tmp_path)
    short = (tmp_path / "tls.crt").read_bytes()
    monkeypatch.undo()
    ensure_certificates(tmp_path)
    long = (tmp_path / "tls.crt").read_bytes()
    assert long != short
    assert _load(tmp_path / "tls.crt").not_valid_after_utc > datetime.now(UTC) + timedelta(days=300)
    ensure_certificates(tmp_path)
    assert (tmp_path / "tls.crt").read_bytes() == long
