"""The independent check of each submission format: what lies on the disk against what the competition asks for.

Nothing here is shared with the writers: a mistake in one cannot hide in the other.
"""
