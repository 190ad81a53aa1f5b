"""What a run will be, before anything of it is run."""
