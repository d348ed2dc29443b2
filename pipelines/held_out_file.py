"""Where documents that are set aside lie: for those who only read them, and need no graph."""

FILE = "held-out.parquet"
"""Beside the shards."""
