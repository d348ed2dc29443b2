"""The tokenizer that a command is given: a file, or the folder of a run."""

from __future__ import annotations

from pipelines import files
from pipelines.inputs_error import InputError
from tokenizer.model import Tokenizer
from tokenizer.model_proto import ModelFileError


def load(path: str) -> Tokenizer:
    """The tokenizer in a file, on any store, or in the folder of a run.

    Raises:
      InputError: there is none, or none that can be used.
    """
    found = tokenizer_path(path)
    try:
        return Tokenizer(files.read_bytes(found))
    except (FileNotFoundError, NotADirectoryError):
        raise InputError(f"no tokenizer at {found}; train one: cidermill tokenizer train") from None
    except ModelFileError as error:
        raise InputError(f"{found}: {error}") from None


def tokenizer_path(path: str) -> str:
    """The model file that a path means: itself, or the one in the folder of a run."""
    return path if path.endswith(".model") else files.join(path, "tokenizer", "tokenizer.model")
