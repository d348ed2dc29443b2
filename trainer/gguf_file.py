"""A GGUF file that is there as a whole or not at all."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

from gguf import GGUFWriter

from trainer.shape import Shape


@contextlib.contextmanager
def gguf_file(path: str, shape: Shape) -> Iterator[GGUFWriter]:
    """A writer for a model, or for an adapter of it: what it has been given is written at the end.

    Raises:
      OSError: the file cannot be written; the message names it.
    """
    temporary = f"{path}.{os.getpid()}.writing"
    writer = GGUFWriter(temporary, "qwen3" if shape.uniform else "openelm")
    try:
        yield writer
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        os.replace(temporary, path)
    except OSError as error:
        raise OSError(f"{path} cannot be written: {error}") from None
    finally:
        with contextlib.suppress(OSError):
            writer.close()
        with contextlib.suppress(FileNotFoundError):
            os.remove(temporary)
