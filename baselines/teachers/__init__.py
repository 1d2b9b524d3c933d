"""Teachers: models that score every item of the catalogue for a history."""
