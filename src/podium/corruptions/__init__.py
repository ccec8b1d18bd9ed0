"""Corrupted copies of training images, on which models are judged and never trained.

``amounts`` says how much is done at each strength, ``operations`` does it, through albumentations, ``corrupt`` to one image
and its target; ``draw`` decides which copy gets what; ``copies`` keeps all of them on disk. Importing ``operations`` or
``corrupt`` imports albumentations and with it torch, so what the parent process calls is ``copies.open_or_make``.
"""
