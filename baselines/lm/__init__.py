"""Language models as recommenders, and a small one that the project trains itself."""
