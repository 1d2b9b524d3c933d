"""One trained model: what it is made from, its training, its evaluation."""
