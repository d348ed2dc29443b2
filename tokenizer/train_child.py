"""The process in which SentencePiece trains: an order as JSON in, a model file out.

``python -m tokenizer.train_child``; started by ``tokenizer.train``. Its log goes to the standard
error; the last line of a failure is SentencePiece's own.
"""

from __future__ import annotations

import json
import sys

import sentencepiece


def main() -> int:
    """Train, and write the model to the file that the order names."""
    order = json.load(sys.stdin)
    try:
        with open(order["target"], "wb") as target:
            sentencepiece.SentencePieceTrainer.Train(model_writer=target, **order["options"])
    except (RuntimeError, OSError) as error:
        print(" ".join(str(error).split()), file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
