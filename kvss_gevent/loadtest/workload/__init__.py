"""Which requests are sent and when: keys, mix, values, arrivals, shapes. It uses no sockets.

May import: protocol.
"""
