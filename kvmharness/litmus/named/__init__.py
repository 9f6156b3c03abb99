"""The named tests, by the rules of which they are cases."""
