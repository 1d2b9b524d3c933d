"""Trained models behind an HTTP API, replaced and compared while they answer."""
