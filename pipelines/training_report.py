"""``train.json`` and ``loss.png``: what a run was, and how it went."""

from __future__ import annotations

import json
import os
from typing import Any

from pipelines import files
from pipelines.amounts import show_count
from pipelines.picture import picture
from trainer import checkpoint
from trainer.checkpoint import CHECKPOINTS
from trainer.journal import Journal, Row
from trainer.loop import BEFORE, LOSSES, MODEL, VALIDATIONS, Settings
from trainer.model_files import CARD

REPORT = "train.json"
PICTURE = "loss.png"
MEMORY_STEPS = 10
SMOOTH = 1 - 1 / MEMORY_STEPS


def write_report(folder: str, settings: Settings, facts: dict[str, Any]) -> dict[str, Any] | None:
    """Write both files of a run from its journals, as far as it has come; gives the content.

    ``facts`` are what was measured; where no step was done, those of an earlier report stay.
    """
    losses = Journal(os.path.join(folder, LOSSES)).rows()
    validations = Journal(os.path.join(folder, VALIDATIONS)).rows()
    if not losses:
        return None
    steps, tokens = _come_to(folder, losses)
    before = next((row for row in validations if row["stage"] == BEFORE), None)
    validations = [row for row in validations if row["stage"] != BEFORE]
    content = {
        "settings": settings.to_dict(),
        "parameters": settings.shape.parameters,
        "steps": steps,
        "steps_without_row": steps - len({row["step"] for row in losses}),
        "tokens": tokens,
        "first_loss": losses[0]["loss"],
        "loss": smooth(losses)[-1],
        "skipped_steps": sum(not row["applied"] for row in losses),
        "before": before,
        "validations": validations,
        "final": _read(os.path.join(folder, MODEL, CARD)).get("validation"),
        "measured": facts,
    }
    path = os.path.join(folder, REPORT)
    if not facts["tokens_per_second"]:
        content["measured"] = _read(path).get("measured", facts)
    files.write_json(path, content)
    draw(os.path.join(folder, PICTURE), losses, validations)
    return content


def _come_to(folder: str, losses: list[Row]) -> tuple[int, int]:
    """Steps and tokens that a run has done: as its last checkpoint has them, which counts rows as
    well that were lost since, and the rows behind it."""
    found = checkpoint.listed(os.path.join(folder, CHECKPOINTS))
    step = tokens = 0
    if found:
        state = checkpoint.read_state(found[-1])
        place = checkpoint.field(found[-1], state, "place", dict)
        step, tokens = (checkpoint.field(found[-1], place, key, int) for key in ("step", "tokens"))
    behind = [row for row in losses if row["step"] > step]
    return max([step, *(row["step"] for row in behind)]), int(
        tokens + sum(row["tokens"] for row in behind)
    )


def smooth(losses: list[Row]) -> list[float]:
    """The loss as an exponential mean over about ten steps, without a bias to its start."""
    found, mean, weight = [], 0.0, 0.0
    for row in losses:
        mean = SMOOTH * mean + (1 - SMOOTH) * row["loss"]
        weight = SMOOTH * weight + (1 - SMOOTH)
        found.append(mean / weight)
    return found


def lines(content: dict[str, Any]) -> list[str]:
    """What a run came to, for people."""
    speed = content["measured"]["tokens_per_second"]
    known = " that has a row" if content["steps_without_row"] else ""
    return [
        f"loss     {content['first_loss']:.3f} nats a token at the first step{known}, "
        f"{content['loss']:.3f} at the last (a mean over about {MEMORY_STEPS} steps)",
        f"steps    {content['steps']}, of {show_count(content['tokens'])} tokens; "
        f"{speed:.0f} tokens/s",
    ]


def _read(path: str) -> dict[str, Any]:
    """The object in a file, or an empty one where there is none: of a run that has not come so
    far."""
    try:
        with open(path, encoding="utf-8") as handle:
            found = json.load(handle)
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def draw(path: str, losses: list[Row], validations: list[Row]) -> None:
    """Loss and bits per byte over tokens, as a picture."""
    with picture(path, 9, 4.5) as figure:
        left = figure.subplots()
        seen, tokens = 0.0, []
        for row in losses:
            seen += row["tokens"]
            tokens.append(seen / 1e6)
        left.plot(tokens, [row["loss"] for row in losses], color="#c9d6df", linewidth=0.7)
        left.plot(tokens, smooth(losses), color="#1f5a7a", linewidth=1.6, label="training loss")
        starts = [n for n, row in enumerate(losses) if n and row["stage"] != losses[n - 1]["stage"]]
        for number in starts:
            left.axvline(tokens[number], color="#999999", linestyle=":", linewidth=1)
            left.annotate(
                losses[number]["stage"], (tokens[number], 1), xycoords=("data", "axes fraction"),
                rotation=90, va="top", ha="right", fontsize=8, color="#666666",
            )  # fmt: skip
        left.set_xlabel("million tokens")
        left.set_ylabel("nats a token")
        left.grid(alpha=0.25)
        if validations:
            right = left.twinx()
            right.plot([row["tokens"] / 1e6 for row in validations],
                       [row["bits_per_byte"] for row in validations],
                       color="#b5542c", marker="o", markersize=4, label="held-out")  # fmt: skip
            right.set_ylabel("bits a byte, held-out", color="#b5542c")
        figure.legend(loc="upper right", bbox_to_anchor=(0.9, 0.95))
