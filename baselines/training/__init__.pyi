from .checkpoint import TrainingState, _save_checkpoint
from .config import TrainingConfig
from .loop import train

__all__ = ["TrainingConfig", "TrainingState", "_save_checkpoint", "train"]
