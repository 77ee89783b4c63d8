"""How hypothesis runs here: no deadline, as machines that run tests are busy."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("mda", deadline=None, max_examples=50)
settings.load_profile("mda")
