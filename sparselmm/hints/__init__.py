"""Names and arguments of other packages, and what to write instead."""
