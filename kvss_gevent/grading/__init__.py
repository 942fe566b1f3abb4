"""Grades a class: a folder of submissions to verdicts, pages for lecturer and students, and files for course systems.

May import: conformance, pages, protocol, settings.
"""
