"""Feeds: producers that publish through the public API, as any producer does."""
