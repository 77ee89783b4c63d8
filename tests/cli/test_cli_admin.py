"""What `mda clients`, `mda keys` and `mda audit` do by themselves."""

from __future__ import annotations

from typing import Any

from marketdata.auth.v1 import client_service_pb2 as pb
from mda.cli import audit


class LongLog:
    """ClientService with a log that is verified three entries a call."""

    def __init__(self) -> None:
        self.asked: list[tuple[int, str, int]] = []

    def call(self, method: str, request: pb.VerifyAuditRequest) -> pb.VerifyAuditResponse:
        assert method == "VerifyAudit"
        self.asked.append((request.after_sequence, request.after_hash, request.known_sequence))
        entries = min(request.after_sequence + 3, 8)
        return pb.VerifyAuditResponse(intact=True, entries=entries, head_hash=f"hash {entries}", complete=entries == 8)


def test_a_long_log_is_verified_to_its_end() -> None:
    log: Any = LongLog()
    answer = audit._verified(log, pb.VerifyAuditRequest(known_sequence=7, known_hash="hash 7"))
    assert (answer.entries, answer.complete) == (8, True)
    assert log.asked == [(0, "", 7), (3, "hash 3", 7), (6, "hash 6", 7)]
