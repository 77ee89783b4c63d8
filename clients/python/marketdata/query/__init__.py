"""Stubs of `marketdata.query`."""
