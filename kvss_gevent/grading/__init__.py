"""Grades a class: turns a folder of submissions into verdicts, pages, and files for course systems.

May import: conformance, pages, protocol, settings.
"""
