"""What follows from leaving out rows or groups."""
