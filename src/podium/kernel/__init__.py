"""Code competitions: a data set of weights and code, and a script that predicts the hidden test set with it, offline."""
