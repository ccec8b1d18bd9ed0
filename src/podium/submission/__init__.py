"""From labels to a file that the competition accepts: writers, the independent check, the ledger."""
