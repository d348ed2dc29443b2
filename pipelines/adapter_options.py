"""Options of the commands that compute with an adapter."""

from __future__ import annotations

import argparse

from pipelines.inputs_error import InputError
from runtime.adapters import ADAPTER_BITS, WIDTHS


def add_adapter(parser: argparse.ArgumentParser) -> None:
    """Add ``--adapter`` and ``--adapter-bits``."""
    parser.add_argument(
        "--adapter", metavar="FOLDER",
        help="an adapter of this very model, as `quantize` and `adapt` write",
    )  # fmt: skip
    parser.add_argument(
        "--adapter-bits", type=int, choices=WIDTHS,
        help="of an adapter's numbers in memory: in 4 it takes half the memory and costs a token "
        f"about half as much, and is less exact (default: {ADAPTER_BITS})",
    )  # fmt: skip


def adapter_bits(arguments: argparse.Namespace, *others: str) -> int:
    """The bits of adapters in memory. Raises ``InputError`` where they are given for none.

    Args:
      others: further options that name adapters.
    """
    if arguments.adapter_bits is None:
        return ADAPTER_BITS
    names = ("adapter", *others)
    if all(getattr(arguments, name) is None for name in names):
        told = " or ".join(f"--{name}" for name in names)
        raise InputError(f"--adapter-bits is for an adapter; give {told}, or leave it out")
    return int(arguments.adapter_bits)
