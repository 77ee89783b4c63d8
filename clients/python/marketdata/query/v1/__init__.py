"""Stubs of `marketdata.query.v1`."""
