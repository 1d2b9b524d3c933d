"""The interfaces that extensions implement: backbones and item scorers."""
