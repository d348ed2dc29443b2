"""The pieces of a vocabulary that no text is made of, and their ids.

As in AFM 2024 (arXiv 2407.21075, section 3.2) and the trainer configuration that its authors
published: pad 0, eos 1, unk 2, no bos, a mask, the newline a piece of its own. Those held in
reserve are for what comes after pretraining, such as the marks of a conversation, so that a model
need not grow new embeddings. No text can spell any of them: ``encode("</s>")`` gives ordinary
pieces.
"""

from __future__ import annotations

PAD, EOS, UNK, MASK = "<pad>", "</s>", "<unk>", "<mask>"
PAD_ID, EOS_ID, UNK_ID, MASK_ID = 0, 1, 2, 3

RESERVED = tuple(f"<reserved_{number}>" for number in range(60))
CONTROLS = (MASK, *RESERVED)
"""With the three before them, ids 0 to 63."""

NEWLINE, TAB = "\n", "\t"
WHITESPACE = (NEWLINE, TAB)
"""Always pieces of their own, never part of another: ids 64 and 65. The 256 bytes follow."""

REQUIRED = "".join(map(chr, range(0x21, 0x7F)))
"""Characters that have a piece however rare they are: a digit is never a byte."""

BYTES = 256
FIXED = 3 + len(CONTROLS) + len(WHITESPACE) + BYTES
"""Pieces that every vocabulary begins with."""

PRESETS = {"device": 49_152, "server": 100_352}
"""Vocabulary sizes: AFM's 49k on a device and 100k on a server, as multiples of 1,024."""
