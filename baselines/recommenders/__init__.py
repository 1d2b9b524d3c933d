"""Published recommenders on a language model that reads vectors of a collaborative teacher."""
