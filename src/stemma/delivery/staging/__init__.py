"""Validation before deployment: a version is tried on an idle slot."""
