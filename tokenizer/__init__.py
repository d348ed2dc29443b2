"""Tokenizer training and token shards. Nothing here yet: the curation path comes first."""
