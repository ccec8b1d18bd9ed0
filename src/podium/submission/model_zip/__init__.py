"""Submission format model_zip: code that the grader runs, tried out before it is packed.

``model.py`` is what is handed in, as it stands; ``content`` what lies beside it; ``export`` makes that with torch, in a
process of its own; ``archive`` writes the file; ``trial`` runs it, with ``grader.py``, and compares; ``submit`` is all of it.
"""
