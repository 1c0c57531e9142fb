"""How columns become numbers, learned once and applied to any rows."""
