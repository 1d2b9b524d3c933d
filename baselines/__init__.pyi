from .contracts.backbone import Backbone, BuildContext, CodeBackbone
from .contracts.scorer import DotProductScorer, ItemScorer
from .data.batches import Histories, TrainBatch, Windows
from .data.dataset import Dataset
from .data.loading import load_catalog, load_dataset, write_plain_layout
from .data.synthetic import synthetic_dataset
from .experiments.comparison import Comparison
from .experiments.config import CompareConfig
from .experiments.report import comparison_page
from .experiments.run import run_comparison
from .models.recommender import Recommender
from .models.spec import ModelSpec
from .models.trained import TrainedModel
from .training.config import TrainingConfig

__all__ = [
    "Backbone",
    "BuildContext",
    "CodeBackbone",
    "CompareConfig",
    "Comparison",
    "Dataset",
    "DotProductScorer",
    "Histories",
    "ItemScorer",
    "ModelSpec",
    "Recommender",
    "TrainBatch",
    "TrainedModel",
    "TrainingConfig",
    "Windows",
    "comparison_page",
    "load_catalog",
    "load_dataset",
    "run_comparison",
    "synthetic_dataset",
    "write_plain_layout",
]
