"""Market Data Agent: the services and the command."""
