"""One trained model: its inputs, training, evaluation and use."""
