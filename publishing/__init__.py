"""What is made of the code before a release, and tried: the site, the reference, the manual page, the wheel.

May import: cli, client, measure, observe, settings.
"""
