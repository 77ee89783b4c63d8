"""The archive: brings what comes to the tapes into the lake, and keeps the lake tidy."""
