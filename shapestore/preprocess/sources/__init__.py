"""One file per dataset layout; each yields validated records."""
