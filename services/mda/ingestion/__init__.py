"""Ingestion: validates what producers send and puts it on the tape."""
