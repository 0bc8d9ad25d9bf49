"""What people say to a running system: mutes and verdicts."""
