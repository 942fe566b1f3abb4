"""The row of the product's own server, which is the default model. cli/serve.py runs it."""

IDEA = "gevent: one greenlet and one lasting watcher per connection"
LIMITS = ("one core for each of --workers; whatever takes long without waiting keeps every client waiting",)
LOSES = ()
SHARED = False
FILE = "kvss_gevent/server/connection_loop.py"
