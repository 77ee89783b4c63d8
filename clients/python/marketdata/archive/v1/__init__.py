"""Stubs of `marketdata.archive.v1`."""
