"""Duplicates: exact by content hash; near by MinHash, verified against what is kept."""
