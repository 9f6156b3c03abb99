"""Patches: read from mails and git, applied, and made into the variants of a series."""
