"""Layers that backbones and teachers share."""
