"""The two tracking servers under measure, and what they are filled with."""
