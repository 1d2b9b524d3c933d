from .card import id_card
from .evidence import Evidence
from .neighbours import Neighbours, nearest_by_cosine

__all__ = ["Evidence", "Neighbours", "id_card", "nearest_by_cosine"]
