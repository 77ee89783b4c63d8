"""Market data: columns, stubs and the client."""
