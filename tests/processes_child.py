"""One of two processes that train together, for ``test_trainer_processes``."""

from __future__ import annotations

import sys
from pathlib import Path

from training_here import stage, training

from tokenizer.reader import WindowReader
from tokenizer.shard_set import ShardSet
from trainer import compute, step
from trainer.shape import Layer, Shape
from trainer.sharding import Layout, make_layout, parse_mesh

SHAPE = Shape(2000, 16, 8, (Layer(2, 1, 64),))


def run(folder: Path, shards: ShardSet, layout: Layout | None) -> None:
    """Three steps of batches in two parts."""
    step.PART_TOKENS = 64
    host, hosts = (0, 1) if layout is None else (layout.share.host, layout.share.hosts)
    training(
        folder, shards, (stage(steps=3),), shape=SHAPE, layout=layout,
        open_source=lambda _: WindowReader(shards, batch=4 // hosts, host=host, hosts=hosts),
    ).run()  # fmt: skip


def main(folder: str, shards_folder: str, port: str, process: str, *meshes: str) -> None:
    compute.start(None, compute.Hosts(f"127.0.0.1:{port}", 2, int(process)))
    shards = ShardSet.open(shards_folder)
    for mesh in meshes:
        run(Path(folder) / mesh, shards, make_layout(parse_mesh(mesh)))


if __name__ == "__main__":
    main(*sys.argv[1:])
