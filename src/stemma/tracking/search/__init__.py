"""Search: MLflow's filter language over rows, in pages that continue where the last one ended."""
