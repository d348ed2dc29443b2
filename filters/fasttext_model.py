"""fastText models that ship with the package: loaded once, checked, and asked safely."""

from __future__ import annotations

import functools
import hashlib
import importlib.resources
import json
from typing import Any


class ModelError(ValueError):
    """A model file that is not the one the package was released with."""


@functools.cache
def _digests() -> dict[str, str]:
    text = (importlib.resources.files("filters") / "models" / "digests.json").read_text("utf-8")
    known: dict[str, str] = json.loads(text)
    return known


@functools.cache
def load(name: str) -> Any:
    """The model ``filters/models/NAME.ftz``, loaded once per process.

    Raises:
      ModelError: its SHA-256 is not the one in ``digests.json``. A model decides what is kept, so
        another file under its name is an error, not a variant.
    """
    # Imported here: it is only needed where documents are measured.
    import fasttext

    resource = importlib.resources.files("filters") / "models" / f"{name}.ftz"
    found = hashlib.sha256(resource.read_bytes()).hexdigest()
    if found != _digests()[name]:
        raise ModelError(
            f"the model {name}.ftz has SHA-256 {found}, not {_digests()[name]}; "
            "reinstall the package, or retrain and update digests.json"
        )
    with importlib.resources.as_file(resource) as path:
        return fasttext.load_model(str(path))


def probability(name: str, line: str, label: str) -> float:
    """The probability a model gives to a label for one line of text without newlines.

    ``model.predict`` of fastText 0.9.3 fails with NumPy 2; the call below it does not.
    """
    found = load(name).f.predict(line + "\n", -1, 0.0, "strict")
    wanted = f"__label__{label}"
    return next((min(1.0, float(score)) for score, name in found if name == wanted), 0.0)


def windows(words: list[str], size: int, most: int) -> list[str]:
    """At most ``most`` windows of ``size`` words, spread evenly over a text, each as one line.

    The last window may be shorter; a text of fewer words is one window.
    """
    count = max(1, -(-len(words) // size))
    chosen = range(count) if count <= most else [n * count // most for n in range(most)]
    return [" ".join(words[n * size : (n + 1) * size]) for n in chosen]
