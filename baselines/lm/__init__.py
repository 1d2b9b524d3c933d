"""Language models as recommenders, in pieces, and a small one that the project trains itself."""
