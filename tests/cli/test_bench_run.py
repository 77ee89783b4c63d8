"""What `mda bench` tells where its rows do not come."""

from __future__ import annotations

import asyncio

import pytest

from mda.cli.bench_run import _within
from mda.cli.folder import StackError


async def test_what_takes_too_long_is_told_with_what_to_do() -> None:
    with pytest.raises(StackError, match=r"the receipt of batches takes longer than 0 s.*mda doctor"):
        async with _within(0.01, "the receipt of batches"):
            await asyncio.Event().wait()
