"""What is made from the code before a release: the site, the man page, completions.

May import: cli.
"""
