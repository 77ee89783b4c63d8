"""What `mda clients`, `mda keys` and `mda audit` do by themselves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import typer

from marketdata.auth.v1 import client_service_pb2 as pb
from mda.cli import admin, audit, bench, clients, keys, usage
from mda.cli.bench_run import Figures
from mda.cli.folder import StackError
from mda.cli.options import Output


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


class Tokens:
    """Counts how many keys are exchanged."""

    sources = 0

    def __init__(self, _channel: object, api_key: str) -> None:
        assert api_key == "mdk_1.secret"
        Tokens.sources += 1

    async def token(self) -> str:
        return "token"


class Pages:
    """ClientService with three pages of clients."""

    def __init__(self, _channel: object) -> None:
        pass

    async def ListClients(self, request: pb.ListClientsRequest, **_: object) -> pb.ListClientsResponse:
        number = int(request.page_token or 1)
        token = str(number + 1) if number < 3 else ""
        return pb.ListClientsResponse(clients=[pb.Client(name=f"c{number}")], next_page_token=token)


def test_a_command_gets_one_token_for_all_its_pages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admin, "TokenSource", Tokens)
    monkeypatch.setattr(admin, "ClientServiceStub", Pages)
    file = tmp_path / "key"
    file.write_text("mdk_1.secret\n")
    api = admin.Api(tmp_path, "http://127.0.0.1:1", file)
    assert [client.name for client in api.all("ListClients", pb.ListClientsRequest(), "clients")] == ["c1", "c2", "c3"]
    assert Tokens.sources == 1


@pytest.mark.parametrize("url", ["foo", "ftp://x", "http://"])
def test_an_address_that_is_none_is_told_at_once(tmp_path: Path, url: str) -> None:
    file = tmp_path / "key"
    file.write_text("mdk_1.secret\n")
    with pytest.raises(StackError, match="not a URL such as"):
        admin.Api(tmp_path, url, file).call("ListClients", pb.ListClientsRequest())


def test_what_is_typed_wrong_is_refused_before_anything_is_asked() -> None:
    with pytest.raises(typer.BadParameter, match="'soon' is no length of time, such as 90s"):
        admin.duration("soon", "--lifetime")
    with pytest.raises(typer.BadParameter, match="say what to change"):
        clients.update("mdc_1")
    for known in ("x", "3:abc"):
        with pytest.raises(typer.BadParameter, match="<sequence>:<hash>"):
            audit.verify(known)


class Answers:
    """A service that gives the same answer to all."""

    answer: Any = None

    def __init__(self, *_: object, admin: bool = True) -> None:
        pass

    def call(self, _method: str, _request: object) -> Any:
        return self.answer


def test_csv_is_csv(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(audit, "Api", Answers)
    monkeypatch.setattr(keys, "Api", Answers)
    whole = pb.VerifyAuditResponse(intact=True, entries=3, head_hash="ab", complete=True)
    monkeypatch.setattr(Answers, "answer", whole)
    with pytest.raises(typer.Exit):
        audit.verify(output=Output.CSV)
    assert capsys.readouterr().out == "intact,entries,head_hash,problem\nyes,3,ab,\n"
    made = pb.NewApiKey(key=pb.ApiKey(key_id="mdk_1", client_id="mdc_1"), api_key="mdk_1.secret")
    monkeypatch.setattr(Answers, "answer", pb.CreateApiKeyResponse(key=made))
    keys.create("mdc_1", output=Output.CSV)
    assert capsys.readouterr().out == "id,client_id,api_key,expires\nmdk_1,mdc_1,mdk_1.secret,-\n"


def test_numbers_in_csv_have_no_commas(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(usage, "Api", Answers)
    limits = pb.Quotas(requests_per_second=10_000, streams=10_000)
    found = pb.Usage(limits=limits, requests_left=20_000, streams=1_000, rows_today=72_876)
    monkeypatch.setattr(Answers, "answer", pb.GetUsageResponse(usage=found))
    usage.usage(output=Output.CSV)
    assert '"' not in capsys.readouterr().out

    async def measured(*_: object) -> Figures:
        return Figures(rows=5_000_000, publish_s=1, replay_rows=5_000_000, replay_s=1, agreed=True, delays_ms=[2_000.5])

    monkeypatch.setattr(bench, "_run", measured)
    monkeypatch.setattr(bench, "connection", lambda *_: ("", ""))
    with pytest.raises(typer.Exit):
        bench.bench(output=Output.CSV)
    shown = capsys.readouterr().out
    assert "5000000,rows/s" in shown
    assert "2000.50,ms" in shown
