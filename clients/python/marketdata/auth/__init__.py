"""Stubs of `marketdata.auth`."""
