"""Write the folder that a server reads."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from baselines.backbones.language import LanguageBackbone
from baselines.backbones.tiger import TigerBackbone
from baselines.contracts.backbone import Backbone
from baselines.exporting.config import Server
from baselines.exporting.flashrec import require_flashrec, write_flashrec
from baselines.exporting.hf import require_hf, write_hf
from baselines.exporting.model_folder import require_transformers_model, write_weights
from baselines.exporting.rtp_llm import require_rtp_llm, write_rtp_llm
from baselines.exporting.static import require_static, write_static
from baselines.exporting.view import ExportView
from baselines.exporting.vllm import require_vllm, write_vllm
from baselines.exporting.xllm import require_xllm, write_xllm
from baselines.models.files import CARD
from baselines.models.hub import model_folder
from baselines.models.trained import TrainedModel
from semid.ids import SemanticIds
from semid.provenance import FILE_NAME, Provenance, atomic_dir, hash_arrays, hash_ids

KIND = "export"


@dataclass(frozen=True, kw_only=True)
class Format:
    """What a server reads.

    Attributes:
        require: Refuses what the server cannot hold.
        write: Writes its files beside the weights.
        models: Classes of the backbones whose weights are written.
    """

    require: Callable[[ExportView], None]
    write: Callable[[ExportView, Path], None]
    models: tuple[type[Backbone], ...] = (LanguageBackbone,)


FORMATS: dict[Server, Format] = {
    "hf": Format(require=require_hf, write=write_hf, models=(LanguageBackbone, TigerBackbone)),
    "vllm": Format(require=require_vllm, write=write_vllm),
    "rtp-llm": Format(require=require_rtp_llm, write=write_rtp_llm),
    "xllm": Format(require=require_xllm, write=write_xllm),
    "static": Format(require=require_static, write=write_static, models=()),
    "flashrec": Format(require=require_flashrec, write=write_flashrec),
}


def export(view: ExportView, server: Server, out: str | os.PathLike[str]) -> None:
    """Write the folder that a server reads, whole or not at all.

    Args:
        view: What is exported.
        server: The server.
        out: The folder, new or an earlier export.

    Raises:
        ValueError: If the server cannot hold it.
        FileExistsError: If the folder holds anything but an export.
    """
    made = FORMATS[server]
    has_weights = view.model is not None and isinstance(view.model.backbone, made.models)
    made.require(view)
    if has_weights:
        require_transformers_model(view, server)
    _require_replaceable(Path(out))
    with atomic_dir(out) as filling:
        if has_weights:
            write_weights(view, filling)
        made.write(view, filling)
        Provenance(
            kind=KIND,
            content=hash_arrays(*view.arrays),
            items=hash_ids(view.item_ids),
            inputs=view.inputs,
            config={"server": server, "start": view.start, "end": view.end},
        ).write(filling)


def read_view(
    folder: str | os.PathLike[str],
    *,
    backbone: str | None = None,
    teacher: str | None = None,
    base: str | None = None,
) -> ExportView:
    """Read a model, or semantic IDs alone.

    Args:
        folder: Where a model or semantic IDs were written, or ``owner/name`` of a model on the Hub.
        backbone: Class path of the model's backbone, if it is not built in.
        teacher: ``package.module:Name`` of the teacher that it needs, likewise.
        base: Path of its base language model, if it has moved.

    Raises:
        FileNotFoundError: If the folder holds neither.
        ProvenanceError: If a part is damaged.
        ValueError: If its ranking is more than a search over its paths.
    """
    place = model_folder(folder)
    if not (place / CARD).exists() and (place / FILE_NAME).exists():
        return ExportView.of_ids(SemanticIds.load(place), str(folder))
    model = TrainedModel.load(place, backbone=backbone, teacher=teacher, base=base)
    return ExportView.of_model(model, str(folder))


def _require_replaceable(out: Path) -> None:
    """Refuse to replace anything but an earlier export."""
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return
    kind = Provenance.read(out).kind if (out / FILE_NAME).is_file() else "other files"
    if kind != KIND:
        raise FileExistsError(
            f"expected a new folder or an earlier export, got {out}, which holds {kind}. Name "
            "another folder with --out."
        )
