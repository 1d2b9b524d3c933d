"""TALLRec as a generator: a language model tuned to write the next title."""

from __future__ import annotations

from typing import ClassVar

from baselines.backbones.language import LanguageBackbone


class TallrecBackbone(LanguageBackbone):
    """TALLRec (arXiv:2305.00447) in the form used when the whole catalogue is ranked.

    The prompt is an instruction and the history's titles, the answer is the next title, and
    adapters are tuned by next-token prediction, including the prompt's tokens as in the released
    code: a ``LanguageBackbone``. Decoding follows the default of ``generate``: scores are divided
    by the number of tokens, including the end token. The paper itself asks yes/no questions
    (``YesNoBackbone``).
    """

    shares_weights_with: ClassVar[str | None] = "lm"
    label: ClassVar[str] = "TALLRec"
    prompt_loss: ClassVar[bool] = True
    length_penalty: ClassVar[float] = 1.0
