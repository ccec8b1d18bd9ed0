"""Training images made of several: copy-paste before the augmentation, CutMix and MixUp after it.

``bank`` keeps what comes from outside a batch, all of it from the training rows; ``paste`` and ``blend`` draw an epoch's
random numbers and do it to batches; ``mixing`` puts them together for a source.
"""

from podium.mixing.mixing import Mixing

__all__ = ["Mixing"]
