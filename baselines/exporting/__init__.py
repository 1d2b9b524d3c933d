"""Export: the trie of a model, and the model itself, in the formats of other servers."""
