"""What durability is tried with: forked verbs, a ledger outside of the store, exact kill points.

Each trial forks a process that has everything imported already, so that hundreds of
trials take minutes.  Nothing here changes or replaces a part of Stemma: verbs go through
the command line's ``dispatch`` and the SDK, each with a freshly opened project.
"""
