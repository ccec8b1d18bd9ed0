"""podium: from an image competition's raw files to a checked submission, with a score that can be believed."""

__version__ = "0.1.0"
