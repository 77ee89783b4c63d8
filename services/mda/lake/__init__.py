"""The lake: the rows of tapes as Delta Lake tables, on a folder or an object store."""
