"""Stubs of `marketdata.ingestion`."""
