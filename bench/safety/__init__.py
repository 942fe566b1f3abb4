"""What safety costs, and what it brings: TLS beside a plain server, an honest client beside attackers.

May import: protocol, settings, core, measure, cli, bench.processes.
"""
