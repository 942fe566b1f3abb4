"""The protocol on the wire: Wireshark's dissector, a recording proxy, capture files, captures for a lecture.

May import: protocol, settings.
"""
