"""Models stated as for other packages."""
