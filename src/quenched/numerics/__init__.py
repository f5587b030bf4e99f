"""What everything stands on: Gaussian expectations, roots of covariances, scoped float64, result codes."""
