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
        wanted = _size(writer, os.path.getsize(temporary))
        writer.write_tensors_to_file()
        writer.close()
        # Numpy passes over what the system refuses of a small array.
        if os.path.getsize(temporary) != wanted:
            raise OSError(f"{os.path.getsize(temporary)} of {wanted} bytes could be written")
        os.replace(temporary, path)
    except OSError as error:
        raise OSError(f"{path} cannot be written: {error}") from None
    finally:
        with contextlib.suppress(OSError):
            writer.close()
        with contextlib.suppress(FileNotFoundError):
            os.remove(temporary)


def _size(writer: GGUFWriter, before: int) -> int:
    """Bytes of the whole file, by those before the tensors' infos: the format's own arithmetic."""
    tensors = [item for part in writer.tensors for item in part.items()]
    infos = sum(8 + len(name.encode()) + 4 + 8 * len(own.shape) + 4 + 8 for name, own in tensors)
    step = writer.data_alignment
    data = sum(GGUFWriter.ggml_pad(own.nbytes, step) for _, own in tensors)
    return GGUFWriter.ggml_pad(before + infos, step) + data
