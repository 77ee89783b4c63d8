"""The examples in the client's docstrings do what they say. Those that take a server are tried in tests/stack."""

from __future__ import annotations

import doctest
import importlib
import pkgutil

import pytest

import marketdata

MODULES = [module.name for module in pkgutil.iter_modules(marketdata.__path__, "marketdata.") if not module.ispkg]
WITH_EXAMPLES = {"marketdata.columns", "marketdata.cursors", "marketdata.digest", "marketdata.errors"}
WITH_EXAMPLES |= {"marketdata.frames", "marketdata.times"}


@pytest.mark.parametrize("name", MODULES)
def test_docstrings(name: str) -> None:
    result = doctest.testmod(importlib.import_module(name), optionflags=doctest.ELLIPSIS)
    assert result.failed == 0
    assert (result.attempted > 0) is (name in WITH_EXAMPLES)
