"""What llama.cpp takes to follow a text: log-probabilities of a model exported as GGUF.

By ``xllamacpp``, a binding of llama.cpp's server inside this process. The server tells the
probabilities of what it generates and not those of a prompt, so each place is asked for in turn: a
prompt up to it, one token to add, and the log-probabilities of the whole vocabulary, taken before
any sampling.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import xllamacpp
from numpy.typing import NDArray

from tokenizer.model import Tokenizer

BIAS = 1e4


class LlamaCpp:
    """A GGUF loaded in llama.cpp, on one thread, keys and values kept in 32 bits."""

    def __init__(
        self, path: str, tokenizer: Tokenizer, context: int = 1024, *, adapter: str | None = None
    ) -> None:
        self._vocabulary = tokenizer.vocab_size
        # The server tells no probabilities where what it adds is no whole text, such as one byte;
        # so it is made to add a letter.
        self._letter = tokenizer.pieces.index("a")
        settings = xllamacpp.CommonParams()
        settings.model.path = path
        settings.n_ctx = context
        settings.n_parallel = 1
        settings.cpuparams.n_threads = 1
        settings.warmup = False
        settings.verbosity = -1
        settings.cache_type_k = settings.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
        settings.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
        if adapter is not None:
            own = xllamacpp.CommonAdapterLoraInfo()
            own.path, own.scale = adapter, 1.0
            settings.lora_adapters = [own]
        self._server = xllamacpp.Server(settings)

    def following(self, prompt: str | Sequence[int] | NDArray[Any]) -> NDArray[np.float64]:
        """Log-probabilities of what follows a text or some ids: (vocabulary,)."""
        told = self._server.handle_completions(
            {
                "prompt": prompt if isinstance(prompt, str) else [int(number) for number in prompt],
                "n_predict": 1,
                "n_probs": self._vocabulary,
                "temperature": 0.0,
                "logit_bias": [[self._letter, BIAS]],
            }
        )
        content = json.loads(told) if isinstance(told, str | bytes) else told
        if "choices" not in content:
            raise ValueError(f"llama.cpp says {content}")
        found = np.full(self._vocabulary, np.nan)
        for entry in content["choices"][0]["logprobs"]["content"][0]["top_logprobs"]:
            found[entry["id"]] = entry["logprob"]
        return found

    def each(self, ids: Sequence[int] | NDArray[Any]) -> NDArray[np.float64]:
        """Log-probabilities of what follows each token: (tokens, vocabulary)."""
        return np.stack([self.following(ids[: place + 1]) for place in range(len(ids))])

    def likelihood(self, ids: Sequence[int] | NDArray[Any], first: int) -> float:
        """The log-likelihood of the tokens from the place ``first`` on, in nats."""
        return sum(
            float(self.following(ids[:place])[ids[place]]) for place in range(first, len(ids))
        )
