"""The protocol on the wire: a Wireshark dissector, a recording proxy, capture files, and captures for lectures.

May import: protocol, settings, measure.
"""
