"""Scripts for development: what each does stands at its head. Run them from the root of the repository."""
