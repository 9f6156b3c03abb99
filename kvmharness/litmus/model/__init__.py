"""A model of the architecture: which translations may be cached, which must not, and what an access may give."""
