"""Commands that need the trainer: JAX is started, and its errors are told as those of a command."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable

from pipelines.extras import need
from pipelines.inputs_error import InputError
from pipelines.resources import cache_folder
from tokenizer.shard_set import ShardError


def with_trainer(work: Callable[[argparse.Namespace], int], arguments: argparse.Namespace) -> int:
    """Do the work of a command; returns its exit code. Training that diverges has failed.

    Raises:
      InputError: the extra is not installed, or something that was given is wrong.
      ShardError: shards are damaged.
    """
    need("train", "jax", "safetensors")
    from trainer import compute
    from trainer.watch import Diverged

    compute.start(cache_folder())
    try:
        return work(arguments)
    except (InputError, ShardError):
        raise
    except ValueError as error:
        raise InputError(str(error)) from None
    except Diverged as error:
        print(f"cidermill: {error}", file=sys.stderr)
        return 1
