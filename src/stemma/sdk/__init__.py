"""What ``import stemma`` offers to training code."""
