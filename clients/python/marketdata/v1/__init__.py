"""Stubs of `marketdata.v1`: rows, columns, instruments, errors."""
