"""Data, teachers, backbones, training, evaluation and comparisons."""
