"""Published recommenders on a language model, each a ``LanguageBackbone`` with its own idea."""
