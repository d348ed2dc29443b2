"""A small decoder model and its training: what judges a corpus."""
