"""Queries of the past: rows of lake and tape as one."""
