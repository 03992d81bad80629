"""The REST protocol of MLflow's tracking server and registry, as its client 3.17 speaks it."""
