"""Running files on emulated ARM64, with sparse kernels."""
