"""What is asked for, and when: keys, mix, values, arrivals, shapes. No socket.

May import: protocol.
"""
