"""What all HTML pages share: the frame of a page that opens offline, tables, the palette, and SVG helpers.

May import: nothing.
"""
