"""The target's time zone for the program: a pymirror feature in four small files."""
