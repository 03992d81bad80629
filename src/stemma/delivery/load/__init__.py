"""Load: requests sent on a schedule, whatever the server does."""
