"""Query: gives market data out, the latest and what comes."""
