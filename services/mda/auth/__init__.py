"""The auth service: clients and their API keys, exchanged for short tokens that the other services verify."""
