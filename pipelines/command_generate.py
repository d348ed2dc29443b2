"""``cidermill generate``: a quantized model goes on with a text."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Sequence

from pipelines import requests
from pipelines.adapter_options import adapter_bits, add_adapter
from pipelines.inputs_error import InputError
from runtime.build import NoLibrary
from runtime.cache import BITS
from runtime.file import CiderFileError
from runtime.model import CONTEXT, Model, Piece
from runtime.sampling import Sampling

MAX_PROMPT_BYTES = 64 << 20


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the command line."""
    parser = commands.add_parser(
        "generate",
        help="go on with a text, with a quantized model",
        description="Go on with one or several texts, with a model of `cidermill quantize`. One "
        "text is written as it comes; of several, each when it is complete, in their order. With "
        "--requests each may have an adapter of its own.",
    )
    parser.add_argument("--model", required=True, metavar="FILE", help="a .cider file")
    add_adapter(parser)
    parser.add_argument(
        "--prompt", metavar="TEXT", action="append", default=[],
        help="may be repeated; - reads one from standard input",
    )  # fmt: skip
    requests.add_options(parser)
    parser.add_argument("--tokens", type=int, default=128, metavar="N",
                        help="at most so many for each prompt (default: 128)")  # fmt: skip
    parser.add_argument("--temperature", type=float, default=0.8, metavar="X",
                        help="0 for the likeliest token each time (default: 0.8)")  # fmt: skip
    parser.add_argument("--top-k", type=int, default=0, metavar="N",
                        help="only the N likeliest tokens (default: all)")  # fmt: skip
    parser.add_argument(
        "--top-p", type=float, default=0.95, metavar="X",
        help="only the likeliest tokens that together reach this share (default: 0.95)",
    )  # fmt: skip
    parser.add_argument(
        "--min-p", type=float, default=0.0, metavar="X",
        help="only tokens at least this share as likely as the likeliest (default: 0)",
    )  # fmt: skip
    parser.add_argument(
        "--repetition-penalty", type=float, default=1.0, metavar="X",
        help="divide logits of tokens that the text holds already, 0.01 to 100 (default: 1, none)",
    )  # fmt: skip
    parser.add_argument("--stop", metavar="TEXT", action="append", default=[],
                        help="end where this text comes; may be repeated")  # fmt: skip
    parser.add_argument("--seed", type=int, default=0, help="of what is drawn (default: 0)")
    parser.add_argument("--threads", type=int, metavar="N", help="default: one a processor")
    parser.add_argument("--context", type=int, default=CONTEXT, metavar="N",
                        help=f"tokens of the longest text (default: {CONTEXT})")  # fmt: skip
    parser.add_argument("--cache-bits", type=int, choices=BITS, default=16,
                        help="of keys and values in the cache (default: 16)")  # fmt: skip
    parser.set_defaults(perform=generate)


def generate(arguments: argparse.Namespace) -> int:
    """Perform the command; returns the exit code."""
    requests.check_options(arguments)
    bits = adapter_bits(arguments, "adapters")
    if arguments.context < 2:
        raise InputError(f"--context is {arguments.context}; it must be at least 2")
    if arguments.prompt.count("-") > 1:
        raise InputError("--prompt - is given twice; standard input can be read once")
    prompts = [_read(prompt) for prompt in arguments.prompt]
    if not prompts and arguments.requests is None:
        raise InputError("nothing to go on from: give --prompt or --requests")
    try:
        sampling = Sampling(
            temperature=arguments.temperature, top_k=arguments.top_k, top_p=arguments.top_p,
            min_p=arguments.min_p, repetition_penalty=arguments.repetition_penalty,
            seed=arguments.seed,
        )  # fmt: skip
        model = Model.load(
            arguments.model, threads=arguments.threads, context=arguments.context,
            cache_bits=arguments.cache_bits,
        )  # fmt: skip
        if arguments.requests is not None:
            return requests.perform(arguments, model, sampling, bits)
        if arguments.adapter is not None:
            model.use(model.adapter(arguments.adapter, bits=bits))
        pieces = model.generate(
            prompts, tokens=arguments.tokens, stop=arguments.stop, sampling=sampling
        )
        if len(prompts) == 1:
            print(prompts[0], end="", flush=True)
            for piece in pieces:
                print(piece.text, end="", flush=True)
            print()
        else:
            _in_order(prompts, pieces)
    except UnicodeEncodeError:
        raise
    except (CiderFileError, NoLibrary, ValueError) as error:
        raise InputError(str(error)) from None
    return 0


def _in_order(prompts: Sequence[str], pieces: Iterable[Piece]) -> None:
    """Write texts one after the other, each as soon as it and those before it are complete."""
    texts, complete, written = list(prompts), set(), 0
    for piece in pieces:
        texts[piece.prompt] += piece.text
        if piece.end:
            complete.add(piece.prompt)
        while written in complete:
            print(("-" * 8 + "\n") * (written > 0) + texts[written], flush=True)
            written += 1


def _read(prompt: str) -> str:
    if prompt != "-":
        return prompt
    content = sys.stdin.read(MAX_PROMPT_BYTES + 1)
    if len(content) > MAX_PROMPT_BYTES:
        raise InputError(f"a prompt of more than {MAX_PROMPT_BYTES} characters")
    return content.removesuffix("\n")
