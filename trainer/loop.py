"""Training: stages of steps, with checkpoints, validation, and a clean end whatever happens.

A run lives in a folder. The same call goes on from the last checkpoint there, bit for bit as if it
had not been stopped; what it was begun with is noted, and other settings are refused.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import jax
import numpy as np
from numpy.typing import NDArray

from tokenizer.model import Tokenizer
from tokenizer.reader import Batch
from tokenizer.stream import Costs
from trainer import arrays, checkpoint
from trainer.bits import Judgement, Text, judge, shorten
from trainer.bits import digest as text_digest
from trainer.checkpoint import CHECKPOINTS, CheckpointError
from trainer.compute import usable_cores
from trainer.journal import Journal, Row
from trainer.memory import give_back
from trainer.model import initialise, shapes
from trainer.model_files import save_model
from trainer.optimizer import schedule_at
from trainer.prune import has_masks, kept_widths, mask_shapes, materialise, with_scores
from trainer.scoring import MAX_WINDOW, Scorer
from trainer.shape import Shape
from trainer.sharding import AXES, Layout
from trainer.stages import Stage
from trainer.step import StepSettings, make_step, parts_of, to_parts
from trainer.watch import Diverged, Watch

Arrays = dict[str, NDArray[Any]]

LOSSES = "losses.jsonl"
VALIDATIONS = "validations.jsonl"
MODEL = "model"
BEFORE = "before"
"""The stage of the row of validations that was made before the first step."""

PLACES = ("mixture", "labels")
"""Settings of a stage that name files."""

CORES = ", cores: "
"""Stands before their number in what a checkpoint tells of the devices."""

BEFORE_SHARE = 0.1
"""Before the first step all held-out documents are judged, unless they have more than this share of
the run's tokens: then that would cost more than some hundredths of the training's time."""

QUICK_TOKENS = 1 << 16
QUICK_SHARE = 0.03
"""Of the held-out documents, so many tokens at most are validated on as training goes, and at most
this share of the stage's; all at its end. Ten times that costs a tenth of the training's time."""


class Source(Protocol):
    """Batches that can be gone on with: ``WindowReader`` or ``TextStream``."""

    def __iter__(self) -> Iterator[Batch]: ...
    def get_state(self) -> dict[str, Any]: ...
    def set_state(self, state: Mapping[str, Any]) -> None: ...


@runtime_checkable
class Counting(Protocol):
    """A source that leaves out some of what it reads, and counts it: texts, and not shards."""

    costs: Costs


class Tell:
    """Is told what happens. This one tells nobody."""

    def stage(self, stage: Stage, done: int) -> None:
        """A stage begins, or goes on after ``done`` steps."""

    def step(self, row: Row) -> None:
        """A step is done."""

    def validated(self, row: Row) -> None:
        """The model was validated."""

    def read(self, stage: Stage, costs: Costs) -> None:
        """A stage has ended; this was left out of what it read since it began or went on."""

    def say(self, text: str) -> None:
        """Something worth a line."""


@dataclass(frozen=True)
class Settings:
    """What a run is made of; all of it is in its identity but what is marked as not, and where
    files of ``stages`` lie.

    Args:
      sources: for each stage what identifies its data, such as the digest of its shards.
      context: tokens of the longest window that the weights to start with were trained on.
      saves, validations: how often in a stage. Not in the identity, nor is ``keep``, the number of
        checkpoints that stay.
    """

    shape: Shape
    stages: tuple[Stage, ...]
    seed: int
    sources: tuple[str, ...]
    tokenizer: str
    compute: str = "f32"
    start: str | None = None
    context: int = field(default=0, compare=False)
    saves: int = field(default=20, compare=False)
    validations: int = field(default=10, compare=False)
    keep: int = field(default=3, compare=False)

    def to_dict(self) -> dict[str, Any]:
        """The identity, as JSON gives it back."""
        found: dict[str, Any] = json.loads(json.dumps(self._fields()))
        return found

    def _fields(self) -> dict[str, Any]:
        return {
            "shape": self.shape.to_dict(),
            "stages": [stage.to_dict() for stage in self.stages],
            "seed": self.seed,
            "sources": list(self.sources),
            "tokenizer": self.tokenizer,
            "compute": self.compute,
            "start": self.start,
        }


@dataclass
class _Place:
    """Where a run is: ``stage_step`` steps of ``stage`` are done, ``step`` in all."""

    stage: int = 0
    stage_step: int = 0
    step: int = 0
    tokens: int = 0
    reader: dict[str, Any] | None = None
    watch: dict[str, float] | None = None

    @staticmethod
    def read(path: str, state: Mapping[str, Any]) -> _Place:
        """The place in the state of a checkpoint. Raises ``CheckpointError``."""
        found = checkpoint.field(path, state, "place", dict)
        numbers = ("stage", "stage_step", "step", "tokens")
        return _Place(
            *(checkpoint.field(path, found, name, int) for name in numbers),
            *(
                checkpoint.field(path, found, name, dict, type(None))
                for name in ("reader", "watch")
            ),
        )


class NoSteps(ValueError):
    """The data of a stage has ended before its first step, so there is nothing to go on with."""


class Stopped(Exception):
    """The run was asked to stop, and did, behind the checkpoint of the step that is named."""


class Training:
    """One run in one folder."""

    def __init__(
        self,
        folder: str,
        settings: Settings,
        tokenizer: Tokenizer,
        open_source: Callable[[int], Source],
        texts: Sequence[Text] = (),
        *,
        start: Arrays | None = None,
        layout: Layout | None = None,
        tell: Tell | None = None,
        stop: Callable[[], bool] = lambda: False,
    ) -> None:
        """``open_source`` gives the data of a stage by its number, from the start; ``texts`` are
        validated on; ``start`` are weights to begin with instead of drawn ones."""
        self.folder, self.settings = folder, settings
        self._tokenizer, self._open, self._texts = tokenizer, open_source, texts
        self._begin, self._layout, self._stop = start, layout, stop
        self._judged = {"documents": len(texts), "sha256": text_digest(texts)}
        self._tell = tell or Tell()
        self._checkpoints = os.path.join(folder, CHECKPOINTS)
        self._losses = Journal(os.path.join(folder, LOSSES))
        self._validations = Journal(os.path.join(folder, VALIDATIONS))
        self._shape, self._context = settings.shape, settings.context
        self._place = _Place()
        self._params: dict[str, jax.Array] = {}
        self._state: dict[str, Any] = {}
        self._writes = jax.process_index() == 0
        self._last: str | None = None
        self._good: str | None = None
        self._scorer: Scorer | None = None

    def run(self) -> Judgement | None:
        """Train to the end of the last stage; gives what the model is worth on all the texts.

        Raises:
          CheckpointError: what lies in the folder is damaged or of other settings.
          Diverged: the run went wrong; it can be begun again from the checkpoint named.
          NoSteps: the data of a stage fills no batch.
          Stopped: it was asked to; the same call goes on.
        """
        os.makedirs(self._checkpoints, exist_ok=True)
        self._restore()
        self._check_place()
        if self._place.step == 0:
            self._validate_before()
        while self._place.stage < len(self.settings.stages):
            self._run_stage(self.settings.stages[self._place.stage])
        params = arrays.fetch(self._params)
        found = self._judge(params, self._texts, self.settings.stages[-1].length)
        if self._writes:
            facts = {
                "training": self.settings.to_dict(),
                "steps": self._place.step,
                "tokens": self._place.tokens,
                "context": max(self._context, *(stage.length for stage in self.settings.stages)),
                "validation": None if found is None else found.to_dict(),
            }
            save_model(
                os.path.join(self.folder, MODEL), params, self._shape, self._tokenizer, facts
            )
        return found

    # --- stages -----------------------------------------------------------------------------

    def _run_stage(self, stage: Stage) -> None:
        keep = self._enter(stage)
        source = self._open(self._place.stage)
        if self._place.reader is not None:
            source.set_state(self._place.reader)
        parts = parts_of(stage.batch, stage.length, self._layout)
        hosts = 1 if self._layout is None else self._layout.share.hosts
        step = make_step(
            StepSettings(
                self._shape, stage.optimizer, self.settings.compute,
                stage.teacher_share if stage.labels else 0.0, keep, self._layout,
            )
        )  # fmt: skip
        watch = Watch(self._place.watch)
        self._tell.stage(stage, self._place.stage_step)
        batches = iter(source)
        compiled = False
        while self._place.stage_step < stage.steps:
            batch = next(batches, None)
            if batch is None or len(batch["tokens"]) * hosts < stage.batch:
                self._tell.say(
                    f"the data of {stage.name} ended after {self._place.stage_step} of "
                    f"{stage.steps} steps"
                )
                break
            factor = schedule_at(
                self._place.stage_step, stage.steps, stage.warmup_steps, stage.floor
            )
            self._params, self._state, told = step(
                self._params,
                self._state,
                arrays.put_batch(to_parts(batch, parts), self._layout),
                arrays.put_scalar(np.float32(factor), self._layout),
            )
            found = {name: value.item() for name, value in told.items()}
            if not compiled:
                give_back()
                compiled = True
            self._after(stage, source, watch, found, factor)
        if isinstance(source, Counting):
            self._tell.read(stage, source.costs)
        if not self._place.stage_step:
            raise NoSteps(_told_no_steps(stage, source, self._last))
        self._leave(stage, keep)

    def _after(self, stage: Stage, source: Source, watch: Watch, told: Row, factor: float) -> None:
        """Note a step, and save, validate, or stop where it is time."""
        place = self._place
        # Who learns a teacher's choices may find the text itself less likely for it.
        wrong = watch.look(place.step + 1, told["objective"], told["norm"], told["applied"])
        if wrong is not None:
            raise Diverged(f"{wrong}; {self._told_good()}")
        # A step's loss is that of the weights before it, so only now is the checkpoint known.
        self._good = self._last
        place.step += 1
        place.stage_step += 1
        place.tokens += int(told["tokens"])
        row = {"step": place.step, "stage": stage.name, **told, "schedule": factor}
        if self._writes:
            self._losses.add(row)
        self._tell.step({**row, "seen": stage.step_tokens})
        place.reader, place.watch = source.get_state(), watch.state()
        ended = place.stage_step == stage.steps
        # One process alone that stopped would leave the others waiting for it.
        asked = any(arrays.everyone(self._stop()))
        # Behind a checkpoint that has it, a validation would be lost to whoever stops in between.
        if not ended and self._due(stage, self.settings.validations):
            self._validate(stage)
        if not ended and (asked or self._due(stage, self.settings.saves)):
            self._save()
        if asked and not ended:
            raise Stopped(f"stopped after step {place.step}")

    def _told_good(self) -> str:
        """The newest checkpoint whose weights gave a good loss, and what lies behind it."""
        good = self._good if self._good is not None and os.path.isdir(self._good) else None
        told = f"the last good checkpoint is {good or 'none'}"
        again = "the same run would diverge again: begin"
        if good is None:
            return f"{told}; {again} anew with a lower rate and --restart"
        if checkpoint.holds_masks(good):
            return f"{told}, within a stage that prunes; {again} that stage anew with a lower rate"
        return f"{told}; {again} another, of another --name, with --start {good} and a lower rate"

    def _due(self, stage: Stage, times: int) -> bool:
        return self._place.stage_step % max(1, math.ceil(stage.steps / times)) == 0

    def _enter(self, stage: Stage) -> tuple[int, ...] | None:
        """Make ready what a stage begins with, unless a checkpoint has brought it."""
        if stage.rope_base is not None:
            self._shape = self._shape.with_rope_base(stage.rope_base)
        keep = None if stage.keep is None else kept_widths(self._shape, stage.keep)
        if self._place.stage_step == 0:
            own = arrays.fetch(self._params)
            if keep is not None:
                widths = [layer.hidden for layer in self._shape.layers]
                self._tell.say(f"{stage.name}: of {sum(widths)} hidden values {sum(keep)} are kept")
                own = with_scores(own, self._shape)
            self._params = arrays.put_params(own, self._layout)
            self._state = _put_state(_fresh_state(own), self._layout)
        return keep

    def _leave(self, stage: Stage, keep: tuple[int, ...] | None) -> None:
        """End a stage: remove what its masks do not keep, validate, and save as the next begins."""
        if keep is not None:
            own, self._shape = materialise(arrays.fetch(self._params), self._shape, keep)
            self._params = arrays.put_params(own, self._layout)
        self._validate(stage)
        place = self._place
        place.stage, place.stage_step, place.reader, place.watch = place.stage + 1, 0, None, None
        self._state = {}
        self._save()

    # --- validation -------------------------------------------------------------------------

    def _validate(self, stage: Stage) -> None:
        """Bits per byte on a part of the held-out texts, the beginning of each."""
        most = min(QUICK_TOKENS, int(stage.tokens * QUICK_SHARE))
        quick = shorten(self._texts, stage.length, most, self._tokenizer)
        params = arrays.fetch(self._params)
        shape = self._shape
        if stage.keep is not None and has_masks(params):
            params, shape = materialise(params, shape, kept_widths(shape, stage.keep))
        found = self._judge(params, quick, stage.length, shape)
        if found is None:
            return
        self._note(stage.name, found)

    def _validate_before(self) -> None:
        """What the weights that the run begins with are worth."""
        held_out = sum(len(text.ids) for text in self._texts)
        if held_out <= BEFORE_SHARE * sum(stage.tokens for stage in self.settings.stages):
            # As the last stage's, so that before and after compare.
            length = self.settings.stages[-1].length
            found = self._judge(arrays.fetch(self._params), self._texts, length)
            if found is not None:
                self._note(BEFORE, found)

    def _note(self, stage: str, found: Judgement) -> None:
        """A row of validation. ``tokens`` is what was trained on by then, ``judged`` what was
        judged."""
        told = found.to_dict()
        row = {"step": self._place.step, "stage": stage, **told, "judged": told["tokens"],
               "tokens": self._place.tokens}  # fmt: skip
        if self._writes:
            self._validations.add(row)
        self._tell.validated(row)

    def _judge(
        self, params: Arrays, texts: Sequence[Text], length: int, shape: Shape | None = None
    ) -> Judgement | None:
        if not texts:
            return None
        wanted, length = shape or self._shape, min(length, MAX_WINDOW)
        if self._scorer is None or (self._scorer.shape, self._scorer.length) != (wanted, length):
            self._scorer = Scorer(params, wanted, length)
        self._scorer.use(params)
        found = judge(self._scorer, texts)
        self._scorer.use({})
        give_back()
        return found

    # --- checkpoints ------------------------------------------------------------------------

    def _save(self) -> None:
        params = arrays.fetch(self._params)
        files: dict[str, Mapping[str, NDArray[Any]]] = {"params": params}
        if self._state:
            for name in ("momentum", "square"):
                files[name] = arrays.fetch(self._state[name])
        state = {
            "settings": self.settings.to_dict(),
            "shape": self._shape.to_dict(),
            "place": {
                "stage": self._place.stage,
                "stage_step": self._place.stage_step,
                "step": self._place.step,
                "tokens": self._place.tokens,
                "reader": self._place.reader,
                "watch": self._place.watch,
            },
            "context": self._context,
            "applied": int(self._state["applied"]) if self._state else 0,
            "validation": self._judged,
            "devices": self._devices(),
        }
        path = os.path.join(self._checkpoints, f"step-{self._place.step:08d}")
        if self._writes:
            for journal in (self._losses, self._validations):
                journal.sync()
            path = checkpoint.save(self._checkpoints, self._place.step, files, state)
            checkpoint.keep_last(self._checkpoints, self.settings.keep)
        self._last = path

    def _restore(self) -> None:
        """The last checkpoint, or the beginning."""
        found = checkpoint.listed(self._checkpoints)
        if not found:
            for journal in (self._losses, self._validations):
                if self._writes:
                    journal.cut(-1)
            own = (
                self._begin
                if self._begin is not None
                else initialise(self._shape, self.settings.seed)
            )
            checkpoint.check_shapes("the weights to start from", own, shapes(self._shape))
            self._params = arrays.put_params(own, self._layout)
            return
        path = self._last = found[-1]
        # The run has gone on from each but the last.
        self._good = found[-2] if len(found) > 1 else None
        files, state = checkpoint.load(path)
        before = identity(checkpoint.field(path, state, "settings", dict))
        now = identity(self.settings.to_dict())
        if before != now:
            raise CheckpointError(
                f"{self.folder} holds a run with other settings: "
                f"{difference(before, now)}; name another --target, "
                "or --restart"
            )
        self._check_texts(checkpoint.field(path, state, "validation", dict))
        self._place = _Place.read(path, state)
        self._context = max(self._context, checkpoint.context_of(state))
        self._shape = Shape.from_dict(checkpoint.field(path, state, "shape", dict))
        self._restore_arrays(path, files, state)
        if self._writes:
            for journal in (self._losses, self._validations):
                journal.cut(self._place.step)
            missing = self._place.step - len({row["step"] for row in self._losses.rows()})
            if missing:
                self._tell.say(
                    f"{os.path.join(self.folder, LOSSES)} lacks {missing} of the "
                    f"{self._place.step} steps that are done: the run goes on as it would have, "
                    "but the losses, norms and skips of those steps are lost to the report"
                )
        saved, here = checkpoint.field(path, state, "devices", str), self._devices()
        # Earlier checkpoints do not tell the cores.
        if saved not in (here, here.partition(CORES)[0]):
            self._tell.say(
                f"this run was saved on {saved} and goes on on {here}: sums are taken in another "
                "order, so that losses may differ in their last digits"
            )

    def _devices(self) -> str:
        """What decides the order of sums: the mesh, how many processes have it, and among how many
        cores XLA shares out a product."""
        sizes = (1,) if self._layout is None else self._layout.mesh.devices.shape
        mesh = "x".join(map(str, (*sizes, *(1,) * (len(AXES) - len(sizes)))))
        cores = f"{CORES}{usable_cores()}" if jax.default_backend() == "cpu" else ""
        return f"a mesh of {mesh} in {jax.process_count()} processes{cores}"

    def _check_place(self) -> None:
        """Every process must have found the same checkpoint."""
        steps = arrays.everyone(self._place.step)
        if len(set(steps)) > 1:
            raise CheckpointError(
                f"the processes find {self.folder} at the steps {', '.join(map(str, steps))}; it "
                "must be the same folder for all of them, on a file system that they share"
            )

    def _check_texts(self, before: Mapping[str, Any]) -> None:
        """Rows of one run's validations are of the same documents."""
        if before != self._judged:
            was, now = (
                f"{found.get('documents')} documents ({found.get('sha256')!s:.12})"
                for found in (before, self._judged)
            )
            raise CheckpointError(
                f"{self.folder} holds a run that is validated on {was}, and now it would be on "
                f"{now}; give the same --validation, another --target, or --restart"
            )

    def _restore_arrays(
        self, path: str, files: Mapping[str, Arrays], state: Mapping[str, Any]
    ) -> None:
        wanted = shapes(self._shape)
        ended = self._place.stage >= len(self.settings.stages)
        if (
            not ended
            and self._place.stage_step
            and (self.settings.stages[self._place.stage].keep is not None)
        ):
            wanted |= mask_shapes(self._shape)
        for name in ("params", *(("momentum", "square") if self._place.stage_step else ())):
            if name not in files:
                raise CheckpointError(f"{path} lacks {name}.safetensors")
            checkpoint.check_shapes(os.path.join(path, name), files[name], wanted)
        self._params = arrays.put_params(files["params"], self._layout)
        if self._place.stage_step:
            own = {name: files[name] for name in ("momentum", "square")}
            applied = np.int32(checkpoint.field(path, state, "applied", int))
            self._state = _put_state({**own, "applied": applied}, self._layout)


def _fresh_state(params: Mapping[str, NDArray[Any]]) -> dict[str, Any]:
    zeros = {name: np.zeros(value.shape, np.float32) for name, value in params.items()}
    return {"momentum": zeros, "square": zeros, "applied": np.int32(0)}


def _put_state(state: Mapping[str, Any], layout: Layout | None) -> dict[str, Any]:
    return {
        "momentum": arrays.put_params(state["momentum"], layout),
        "square": arrays.put_params(state["square"], layout),
        "applied": arrays.put_scalar(state["applied"], layout),
    }


def _told_no_steps(stage: Stage, source: Source, last: str | None) -> str:
    """Why a stage made no step, and what to do."""
    found = f": {source.costs.left_out()}" if isinstance(source, Counting) else ""
    # With other data it is another run, which does not go on with this one's checkpoints.
    onward = "" if last is None else (
        f"; what was trained before it is {last}, for another run of the stages that are left, "
        "with --start and another --name"
    )  # fmt: skip
    return (
        f"the data of {stage.name} ended before its first step, which takes {stage.batch} windows "
        f"of {stage.length} tokens{found}; give more data, longer texts, or smaller batches{onward}"
    )


def identity(settings: Mapping[str, Any]) -> dict[str, Any]:
    """What decides the losses of a run, of its settings as JSON has them.

    ``sources`` say which windows a mixture takes, and whose labels they are; where their files lie
    decides nothing.
    """
    stages = settings.get("stages")
    if not isinstance(stages, list):
        return dict(settings)
    return {
        **settings,
        "stages": [
            {key: value for key, value in stage.items() if key not in PLACES}
            if isinstance(stage, dict)
            else stage
            for stage in stages
        ],
    }


def difference(before: Any, now: Any, where: str = "") -> str:
    """The first value, by name, that two settings do not share."""
    if isinstance(before, dict) and isinstance(now, dict):
        for key in sorted({*before, *now}):
            if before.get(key) != now.get(key):
                return difference(before.get(key), now.get(key), f"{where}.{key}".lstrip("."))
    if isinstance(before, list) and isinstance(now, list) and len(before) == len(now):
        for number, (a, b) in enumerate(zip(before, now, strict=True)):
            if a != b:
                return difference(a, b, f"{where}[{number}]")
    return f"{where} was {before} and is {now}"
