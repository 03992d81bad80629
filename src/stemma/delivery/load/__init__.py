"""Load: requests sent on a schedule, whatever the server does.

``schedule`` says when, ``requests`` what, ``driver`` sends and times, ``result`` concludes;
``measuring`` does it in a process of its own, and ``traffic`` goes on until it is told to stop.
"""
