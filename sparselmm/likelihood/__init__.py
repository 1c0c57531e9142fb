"""The likelihood of a linear mixed model: criterion, derivatives, search, certificate."""
