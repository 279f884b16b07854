"""The checks that come with the package, one file each; `check.py` says what a check is."""
