from .collisions import check_collisions
from .schemes import check_encoding, check_settings, check_tokenizer
from .watching import ContractError

__all__ = [
    "ContractError",
    "check_collisions",
    "check_encoding",
    "check_settings",
    "check_tokenizer",
]
