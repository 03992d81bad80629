"""The application that answers for one version, in the environment of that version."""
