"""The process in which SentencePiece trains: an order as JSON in, a model file out.

``python -m tokenizer.train_child``; started by ``tokenizer.train``. Its log goes to the standard
error; the last line of a failure is SentencePiece's own.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys

import sentencepiece

PR_SET_PDEATHSIG = 1  # linux/prctl.h


def main() -> int:
    """Train, and write the model to the file that the order names."""
    if sys.platform == "linux":
        # Not to train on for a parent that was killed. Elsewhere the closed log ends this.
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    order = json.load(sys.stdin)
    if os.getppid() != order["parent"]:
        return 1
    try:
        with open(order["target"], "wb") as target:
            sentencepiece.SentencePieceTrainer.Train(model_writer=target, **order["options"])
    except (RuntimeError, OSError) as error:
        print(" ".join(str(error).split()), file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
