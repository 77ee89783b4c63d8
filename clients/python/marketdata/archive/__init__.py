"""Stubs of `marketdata.archive`."""
