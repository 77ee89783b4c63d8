"""`mda`, the command."""
