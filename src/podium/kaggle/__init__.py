"""Kaggle, by way of its own command line driven as a program: credentials, downloads, submissions."""
