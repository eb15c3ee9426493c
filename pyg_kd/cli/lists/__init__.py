"""Lists for many users, in files: in constant memory, and continued after a crash."""
