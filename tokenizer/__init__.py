"""Tokenizers and token shards: training, encoding, packing, mixing, reading."""
