"""Stubs of `marketdata.auth.v1`."""
