"""Hyper-parameters searched with Optuna around ``train_fold``: studies that go on after a kill, and what is confirmed of them."""
