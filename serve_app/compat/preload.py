"""What Ray's worker processes import as they start, where RAY_preload_python_modules names this as a node starts.

The variable sets `preload_python_modules` of Ray's own settings (2.60). This module is cheap: every worker imports it.
"""

from serve_app.compat import build_keeps_serving, haproxy_restart

haproxy_restart.install()
build_keeps_serving.install()
