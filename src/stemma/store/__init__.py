"""Bytes: chunks, files, trees and records, named by digest and verified at every read."""
