"""Readers: from the raw bytes of an input to documents and dead letters."""
