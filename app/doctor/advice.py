"""The lines that mend each fault, by the place where they stand. Lines of proxies are lines of the files in deploy/."""

from collections.abc import Mapping

from app.doctor.finding import LineToChange

_Lines = Mapping[str, tuple[str, ...]]

_NO_NODE: _Lines = {
    "nginx": ("server 10.0.0.1:1337 max_fails=0;", "proxy_pass http://recado;"),
    "haproxy": ("server node1 10.0.0.1:1337", "option httpchk GET /readyz"),
    "caddy": ("to 10.0.0.1:1337 10.0.0.2:1337", "health_uri /readyz"),
}
_UPGRADE: _Lines = {
    "nginx": (
        "proxy_http_version 1.1;",
        "proxy_set_header Upgrade $http_upgrade;",
        "proxy_set_header Connection $connection_header;",
    ),
    "haproxy": ("mode http", "timeout tunnel 75s"),
    "caddy": ("reverse_proxy {",),
}
_SILENCE: _Lines = {
    "nginx": ("proxy_read_timeout 75s;", "proxy_send_timeout 75s;"),
    "haproxy": ("timeout client 75s", "timeout server 75s", "timeout tunnel 75s"),
    "config.yml": ("io: {pingInterval: 25000}   # below the time-out of the proxy",),
}
_BUFFERING: _Lines = {
    "nginx": ("proxy_buffering off;",),
    "caddy": ("flush_interval -1",),
}
_CACHE: _Lines = {"nginx": ("proxy_cache off;",)}
_TYPE: _Lines = {
    "nginx": ("proxy_hide_header Content-Type;   # delete this line, and add_header Content-Type",),
    "haproxy": ("http-response set-header Content-Type   # delete this line",),
}
_PREFIX: _Lines = {
    "nginx": ("location / {", "proxy_pass http://recado;   # with a slash at its end below another location"),
    "caddy": ("handle_path /PREFIX/* {",),
    "the page": ('io(url, {path: "/PREFIX/socket.io/"})',),
}
_NODES: _Lines = {
    "config.yml": (
        "cluster: {url: http://10.0.0.1:1337, secret: ...}   # a URL for each node, one secret for all",
        "redis: {url: ...}   # the same for all nodes",
    ),
    "environment": ("RECADO_NODE_URL=http://10.0.0.1:1337", "RECADO_CLUSTER_SECRET=...   # the same on all nodes"),
}
_CORS: _Lines = {
    "nginx": ("add_header Access-Control-Allow-Origin ...;   # delete this line: Recado sends the header",),
    "haproxy": ("http-response set-header Access-Control-Allow-Origin ...   # delete this line",),
    "caddy": ("header Access-Control-Allow-Origin ...   # delete this line",),
}
_PUBLISHED: _Lines = {
    "nginx": ("location /metrics { return 404; }",),
    "haproxy": ("http-request deny deny_status 404 if { path_beg /metrics }",),
    "caddy": ("respond /metrics* 404",),
}
_PROXIES: _Lines = {
    "config.yml": ("trusted_proxies: [private]",),
    "nginx": ("proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;",),
    "haproxy": ("option forwardfor",),
}
_POLICY: _Lines = {"redis.conf": ("maxmemory-policy noeviction",)}
_APPEND: _Lines = {"redis.conf": ("appendonly yes", "appendfsync everysec")}
_CLOCK: _Lines = {"the machine": ("timedatectl set-ntp true",)}

_ALL: Mapping[str, _Lines] = {
    "no node": _NO_NODE,
    "upgrade": _UPGRADE,
    "silence": _SILENCE,
    "buffering": _BUFFERING,
    "cache": _CACHE,
    "type": _TYPE,
    "prefix": _PREFIX,
    "nodes": _NODES,
    "cors": _CORS,
    "published": _PUBLISHED,
    "proxies": _PROXIES,
    "policy": _POLICY,
    "append": _APPEND,
    "clock": _CLOCK,
}
SUBJECTS = frozenset(_ALL)


def lines_for(subject: str) -> tuple[LineToChange, ...]:
    """The lines that mend a fault of this subject."""
    return tuple(LineToChange(where, line) for where, lines in _ALL[subject].items() for line in lines)


def origin_line(site: str, origin: str) -> tuple[LineToChange, ...]:
    """The line of sites.yml that lets a page in."""
    return (LineToChange("sites.yml", f"{site}: {{origins: [..., {origin}]}}"),)
