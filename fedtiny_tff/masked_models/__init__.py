"""Models that train under a mask: tfmot's wrappers, the one place that knows them, and vectors."""
