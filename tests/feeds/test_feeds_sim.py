"""`python -m mda.feeds` publishes the synthetic market through the API until it is stopped."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
from pathlib import Path

import nats
import pytest
from feed_api import Api
from pydantic import ValidationError

from marketdata.client import Client
from marketdata.columns import NANOS, Batch, Kind
from mda.feeds.__main__ import SimSettings
from mda.feeds.market import PROFILES
from mda.tape.payload import decode_payload
from mda.tape.tape import Tape


async def batches_on_the_tape(nats_url: str) -> list[Batch]:
    client = await nats.connect(nats_url)
    try:
        tape = Tape(client, "SIM")
        if await tape.bounds() is None:
            return []
        entries = await tape.read(0)
        return [batch for stored in entries for batch in decode_payload(stored.entry.payload)]
    finally:
        await client.close()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_the_feed_publishes_until_it_is_stopped(
    api: Api, nats_url: str, tmp_path: Path, number: signal.Signals
) -> None:
    environment = {"MDA_SIM_URL": api.url, "MDA_SIM_API_KEY": api.api_key, "MDA_SIM_INTERVAL_MS": "20"}
    log = tmp_path / "feed.log"
    feed = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "mda.feeds", env=os.environ | environment, stderr=await asyncio.to_thread(log.open, "wb")
    )
    began_ns = time.time_ns()
    deadline = time.monotonic() + 20
    while len(batches := await batches_on_the_tape(nats_url)) < 10:
        assert time.monotonic() < deadline, log.read_text()
        assert feed.returncode is None, log.read_text()
        await asyncio.sleep(0.05)
    feed.send_signal(number)
    assert await asyncio.wait_for(feed.wait(), 15) == 0

    assert {batch.kind for batch in batches} == {Kind.QUOTE, Kind.TRADE}
    for batch in batches:
        assert set(batch["instrument_id"].tolist()) <= set(range(1, len(PROFILES) + 1))
        assert (batch["verdicts"] == 0).all()
        assert (batch["ts_event"] > began_ns - 60 * NANOS).all()
        assert (batch["ts_event"] < time.time_ns()).all()
    async with Client.connect(api.url, api.api_key) as client:
        known = await client.list_instruments("SIM")
        async with client.publisher("SIM", "sim") as publisher:
            assert publisher.last_number >= len(batches)
    assert [(i.instrument_id, i.symbol) for i in known] == [(n, p.symbol) for n, p in enumerate(PROFILES, 1)]
    (entry,) = [json.loads(line) for line in log.read_text().splitlines()]
    assert (entry["event"], entry["dataset"], entry["last_number"]) == ("publishing", "SIM", 0)


@pytest.mark.parametrize(("name", "text"), [("interval_ms", "9"), ("interval_ms", "10001"), ("seed", "x")])
def test_a_setting_that_makes_no_sense_is_refused(monkeypatch: pytest.MonkeyPatch, name: str, text: str) -> None:
    monkeypatch.setenv("MDA_SIM_API_KEY", "a.b")
    monkeypatch.setenv(f"MDA_SIM_{name.upper()}", text)
    with pytest.raises(ValidationError, match=name):
        SimSettings.model_validate({})


def test_the_feed_needs_a_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MDA_SIM_API_KEY", raising=False)
    with pytest.raises(ValidationError, match="api_key"):
        SimSettings.model_validate({})
