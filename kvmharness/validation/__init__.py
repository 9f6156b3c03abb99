"""A series validated: prepared, run, judged; and git's bisection."""
