"""Engines and a store to test on, from package registries, on this machine's loopback only."""
