"""Stubs of `marketdata.ingestion.v1`."""
