"""The words in which rows answer, as far as the model has some of its own."""

Answers = frozenset[str]
"""Those that are allowed."""

DONE: Answers = frozenset({"done"})
NOT_RUN: Answers = frozenset()
"""Of a row that cannot be reached: L2's rows after an entry that must be refused."""

LOGGED = "at least "
"""Begins the answer to a look at the dirty log: KVM logs a page whenever it maps it writable, so there may be more."""
