"""``cidermill shards``: look at token shards, check them, export them."""

from __future__ import annotations

import argparse
import os

from pipelines.command_pack import print_loss
from pipelines.inputs_error import InputError
from tokenizer import megatron
from tokenizer.shard_set import ShardSet


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``shards`` to the command line."""
    shards = commands.add_parser(
        "shards",
        help="look at token shards, check them, export them",
        description="Work with the shards that `cidermill pack` wrote, on this machine.",
    )
    actions = shards.add_subparsers(dest="action", required=True, metavar="ACTION")
    show = actions.add_parser("show", help="count what is in shards")
    verify = actions.add_parser("verify", help="compare every file with its SHA-256 in the index")
    export = actions.add_parser(
        "export",
        help="write Megatron's indexed datasets",
        description="Write SOURCE.bin and SOURCE.idx of each source to a folder: a sequence a "
        "document, without padding.",
    )
    for action, perform in ((show, _show), (verify, _verify), (export, _export)):
        action.add_argument("folder", help="folder with index.json, such as out/shards/4096")
        action.set_defaults(perform=perform)
    export.add_argument("--target", required=True, help="folder to write")


def _show(arguments: argparse.Namespace) -> int:
    opened = ShardSet.open(arguments.folder)
    tokenizer, packing = opened.index["tokenizer"], opened.index["packing"]
    print(f"windows of {opened.length} tokens, {packing['method']}; {len(opened.shards)} shards")
    print(f"tokenizer {tokenizer['sha256'][:12]} of {tokenizer['vocab_size']} pieces")
    print_loss(opened.index)
    return 0


def _verify(arguments: argparse.Namespace) -> int:
    opened = ShardSet.open(arguments.folder)
    opened.verify()
    print(f"{len(opened.shards)} shards are as they were written")
    return 0


def _export(arguments: argparse.Namespace) -> int:
    opened = ShardSet.open(arguments.folder)
    for source in opened.windows():
        shards = [shard for shard in opened.shards if shard.source == source]
        prefix = os.path.join(arguments.target, source)
        try:
            count = megatron.export(shards, prefix, opened.index["dtype"])
        except ValueError as error:
            raise InputError(str(error)) from None
        print(f"{prefix}.bin, .idx: {count} documents")
    return 0
