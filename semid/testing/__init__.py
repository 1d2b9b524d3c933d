"""Executable contracts for custom schemes and collision strategies.

A test is one line, and a failure names the violated clause::

    from semid.testing import check_collisions, check_tokenizer

    def test_my_scheme_keeps_the_contract():
        check_tokenizer(MyScheme)

    def test_my_strategy_keeps_the_contract():
        check_collisions(my_strategy)
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
