"""TALLRec as a writer of titles: a language model that is tuned to write the next one."""

from __future__ import annotations

from typing import ClassVar

from baselines.backbones.language import LanguageBackbone


class TallrecBackbone(LanguageBackbone):
    """TALLRec (arXiv:2305.00447) as it is compared with where the whole catalogue is ranked.

    An instruction and the history's titles are the prompt, the next title is the answer, adapters
    are tuned by next-token prediction, of the prompt's tokens too as in the released code:
    ``LanguageBackbone``. Decoded is as ``generate`` does unless told otherwise, with scores divided
    by the number of tokens, the end token counted. The paper itself asks for yes or no
    (``YesNoBackbone``).
    """

    shares_weights_with: ClassVar[str | None] = "lm"
    label: ClassVar[str] = "TALLRec"
    prompt_loss: ClassVar[bool] = True
    length_penalty: ClassVar[float] = 1.0
