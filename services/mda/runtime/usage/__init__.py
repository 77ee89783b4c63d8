"""What each client uses of what it may: calls, streams, rows; shared by all processes of all services."""
