"""Reading a language model's adapters, and merging them into its base."""

from __future__ import annotations

import copy
import dataclasses
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from baselines.models.stages import read_fitted
from baselines.training.checkpoint import TrainingState
from semid.provenance import Provenance, atomic_dir, hash_json, require_same

if TYPE_CHECKING:
    from baselines.backbones.language import LanguageBackbone


def load_adapter(folder: str | os.PathLike[str], backbone: LanguageBackbone) -> TrainingState:
    """Load trained weights into a fresh backbone over the same base.

    Args:
        folder: Folder of a finished training, with everything learned on top of the base.
        backbone: Changed in place; in eval mode afterwards.

    Raises:
        ProvenanceError: If it was trained on another base, for other prompts or other paths, or
            with adapters of another kind.
    """
    lineage = Provenance.read(folder)
    found, lora = lineage.inputs, lineage.config.get("shape", {}).get("lora")
    for name, content in backbone.input_hashes.items():
        require_same(
            f"the {name} of the adapters in {folder}",
            content,
            found.get(name, "none"),
            what_to_do="Load the base, the catalogue and the settings that they were trained with.",
        )
    if lora is not None and backbone.adapted:
        require_same(
            f"lora of the adapters in {folder}",
            hash_json(dataclasses.asdict(backbone.config.lora)),
            hash_json(lora),
            what_to_do=f"They were trained with {lora}.",
        )
    return read_fitted(backbone, Path(folder))


@torch.no_grad()
def merge_and_save(backbone: LanguageBackbone, folder: str | os.PathLike[str]) -> None:
    """Write the trained model as an ordinary ``transformers`` folder, with its tokenizer.

    Adapters are merged into the weights and added tokens into the embedding matrices, so that
    ``AutoModelForCausalLM`` and ``AutoTokenizer`` read it without ``peft``. Of the base's
    generation settings only the special tokens are kept: many sample or penalise repetition, and
    would not rank items by probability. The folder is written atomically. A copy of the model is
    held in memory meanwhile.

    Raises:
        ValueError: If the base is quantised, or the model reads vectors as well as tokens.
    """
    if backbone.reads_vectors:
        raise ValueError(
            f"{backbone.label} reads vectors through a projector, for which the folder of a "
            "language model has no room. Load it with load_adapter onto a fresh backbone instead."
        )
    if backbone.config.quantize != "none":
        raise ValueError(
            f"a base in {backbone.config.quantize} cannot take up its adapters exactly. Load them "
            "onto the base as it is (quantize none), and merge there."
        )
    model: Any = copy.deepcopy(backbone.lm).to("cpu")
    if backbone.config.lora.r > 0:
        model = model.merge_and_unload()
    if (added := backbone.added) is not None:
        first, last = added.first, added.first + len(added.rows)
        if last > model.get_input_embeddings().weight.shape[0]:
            model.resize_token_embeddings(last, mean_resizing=False)
        model.get_output_embeddings().weight[first:last] = added.output_table().cpu()
        model.get_input_embeddings().weight[first:last] = added.rows.cpu()
    of_base = model.generation_config
    model.generation_config = type(of_base)(
        bos_token_id=of_base.bos_token_id,
        eos_token_id=of_base.eos_token_id,
        pad_token_id=of_base.pad_token_id,
    )
    with atomic_dir(folder) as filling:
        model.save_pretrained(filling)
        backbone.tokenizer.save_pretrained(filling)
