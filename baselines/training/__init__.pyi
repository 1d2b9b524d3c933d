from .checkpoint import TrainingState, _save_checkpoint
from .config import TrainingConfig
from .loop import TrainingTask, train

__all__ = ["TrainingConfig", "TrainingState", "TrainingTask", "_save_checkpoint", "train"]
