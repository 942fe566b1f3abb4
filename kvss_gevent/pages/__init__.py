"""What all HTML pages share: the shell that opens offline, tables, the palette, and SVG helpers.

May import: nothing.
"""
