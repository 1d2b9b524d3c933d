"""Next-token training of a causal language model through ``transformers.Trainer``."""

from __future__ import annotations

import json
import logging
import math
import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from baselines.lm.loading import quietly
from baselines.pretraining.blocks import Blocks
from baselines.pretraining.config import NextTokenConfig
from baselines.runtime.progress import Tracker, track
from semid.distributed import distributed_state

logger = logging.getLogger(__name__)


def train_next_token(
    model: Any,
    learned: Blocks,
    held_out: Blocks,
    config: NextTokenConfig,
    *,
    seed: int,
    work: Path,
    title: str,
) -> list[dict[str, float]]:
    """Train on blocks of texts; leaves ``model`` in eval mode with the best epoch's weights.

    A checkpoint is written after every epoch. When called again after an interruption, training
    resumes after the last finished epoch and ends with the same weights. With several processes,
    each takes its share of every batch, and the loss is the mean over all tokens.

    Args:
        model: A causal language model of ``transformers``; trained in place.
        learned: Training blocks.
        held_out: Blocks that select the epoch.
        config: Settings.
        seed: Seed of the data order.
        work: Folder for the checkpoints of ``Trainer``, which hold pickles.
        title: Name shown beside the progress bar.

    Returns:
        One entry per epoch: ``loss``, the mean over the epoch's training tokens, and
        ``held_out``, the mean over held-out tokens after it.

    Raises:
        ValueError: If the blocks of a batch cannot be divided among the processes, or the held-out
            loss is not finite.
    """
    from transformers import Trainer
    from transformers.trainer_callback import PrinterCallback

    steps = config.epochs * math.ceil(len(learned) / config.batch_blocks)
    with track(title, steps) as progress, quietly(), _global_seeds_kept():
        trainer = Trainer(
            model=model,
            args=_arguments(config, steps, seed=seed, work=work),
            train_dataset=learned,
            eval_dataset=held_out,
            callbacks=[_progress_callback(progress, title)],
        )
        trainer.remove_callback(PrinterCallback)  # it prints to standard output
        model.config.use_cache = False  # with a cache, positions would not separate texts
        trainer.train(resume_from_checkpoint=_last_checkpoint(work))
        model.config.use_cache = True
    model.eval()
    return _history(trainer.state.log_history)


def _arguments(config: NextTokenConfig, steps: int, *, seed: int, work: Path) -> Any:
    """The settings as ``Trainer`` arguments, for this process's share of a batch."""
    from transformers import TrainingArguments

    here = distributed_state()
    share, left = divmod(config.batch_blocks, here.num_processes)
    if left:
        raise ValueError(
            f"batch_blocks must be a multiple of the number of processes, {here.num_processes}, "
            f"got {config.batch_blocks}"
        )
    return TrainingArguments(
        output_dir=str(work),
        num_train_epochs=config.epochs,
        per_device_train_batch_size=share,
        per_device_eval_batch_size=share,
        learning_rate=config.lr,
        lr_scheduler_type="cosine",
        warmup_steps=max(round(config.warmup * steps), 1),
        weight_decay=config.weight_decay,
        max_grad_norm=config.clip,
        eval_strategy="epoch",
        save_strategy="epoch",
        logging_strategy="epoch",
        save_total_limit=1,
        load_best_model_at_end=True,
        metric_for_best_model="eval_loss",
        greater_is_better=False,
        use_cpu=here.device.type == "cpu",
        dataloader_pin_memory=False,
        disable_tqdm=True,
        report_to="none",
        seed=seed,
    )


def _progress_callback(progress: Tracker, title: str) -> Any:
    from transformers import TrainerCallback

    class ProgressCallback(TrainerCallback):
        """Updates the progress bar, and stops on a non-finite held-out loss."""

        def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            progress.advance(state.global_step)

        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            progress.advance(1)

        def on_evaluate(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            history = _history(state.log_history)
            logger.info("%s epoch %d: %s", title, len(history), history[-1])
            if not math.isfinite(history[-1]["held_out"]):
                raise ValueError(
                    f"the held-out loss of the {title} became {history[-1]['held_out']} in epoch "
                    f"{len(history)}. Lower the learning rate."
                )
            progress.note(f"held-out perplexity {math.exp(history[-1]['held_out']):.1f}")

    return ProgressCallback()


def _last_checkpoint(work: Path) -> str | None:
    """The newest complete checkpoint: the trainer writes its own state last."""
    found: dict[int, Path] = {}
    for path in work.glob("checkpoint-*"):
        try:
            state = json.loads((path / "trainer_state.json").read_text())
        except (OSError, ValueError):
            continue
        found[state["global_step"]] = path
    return str(found[max(found)]) if found else None


def _history(log: list[dict[str, float]]) -> list[dict[str, float]]:
    losses = [entry["loss"] for entry in log if "loss" in entry]
    held_out = [entry["eval_loss"] for entry in log if "eval_loss" in entry]
    return [{"loss": loss, "held_out": value} for loss, value in zip(losses, held_out, strict=True)]


@contextmanager
def _global_seeds_kept() -> Iterator[None]:
    """Restore the global random states, which ``Trainer`` seeds."""
    of_python, of_numpy = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng():
            yield
    finally:
        random.setstate(of_python)
        np.random.set_state(of_numpy)
