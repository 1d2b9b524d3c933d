"""The page of ID cards: what ``semid inspect --out`` writes."""
