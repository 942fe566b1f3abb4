"""The row of the product's own server, which cli/serve.py runs and server.py explains; the default model."""

IDEA = "gevent: one greenlet and one lasting watcher per connection"
LIMITS = ("one core for each of --workers; whatever takes long without waiting keeps every client waiting",)
LOSES = ()
SHARED = False
FILE = "kvss_gevent/server/gevent_server.py"
