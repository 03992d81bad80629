"""The verbs that the command line and the SDK hold."""
