"""URLs that must never be called, with the rule that refuses each: numbers 1 to 97 of the outbound case list."""

from __future__ import annotations

IPV4_LOOPBACK = [
    (1, "http://127.0.0.1/", "address.private"),
    (2, "http://127.1/", "host.ipv4"),
    (3, "http://127.0.1/", "host.ipv4"),
    (4, "http://2130706433/", "host.ipv4"),
    (5, "http://0x7f000001/", "host.ipv4"),
    (6, "http://0x7f.0x0.0x0.0x1/", "host.ipv4"),
    (7, "http://0x7f.1/", "host.ipv4"),
    (8, "http://0177.0.0.1/", "host.ipv4"),
    (9, "http://017700000001/", "host.ipv4"),
    (10, "http://0/", "host.ipv4"),
    (11, "http://0.0.0.0/", "address.private"),
    (12, "http://127.0.0.1./", "host.ipv4"),
    (13, "http://localhost/", "host.single_label"),
    (14, "http://LOCALHOST/", "host.single_label"),
    (15, "http://localhost./", "host.single_label"),
    (16, "http://foo.localhost/", "host.suffix"),
    (17, "http://127.255.255.254/", "address.private"),
]
IPV6 = [
    (18, "http://[::1]/", "address.embedded"),
    (19, "http://[::]/", "address.embedded"),
    (20, "http://[0:0:0:0:0:0:0:1]/", "address.embedded"),
    (21, "http://[::ffff:127.0.0.1]/", "address.embedded"),
    (22, "http://[::ffff:7f00:1]/", "address.embedded"),
    (23, "http://[::127.0.0.1]/", "address.embedded"),
    (24, "http://[::ffff:0:127.0.0.1]/", "address.embedded"),
    (25, "http://[64:ff9b::7f00:1]/", "address.embedded"),
    (26, "http://[64:ff9b::a9fe:a9fe]/", "metadata"),
    (27, "http://[64:ff9b:1::7f00:1]/", "address.embedded"),
    (28, "http://[2002:7f00:1::]/", "address.private"),
    (29, "http://[2001:0:7f00:1::]/", "address.private"),
    (30, "http://[fe80::1]/", "address.private"),
    (31, "http://[fe80::1%25lo]/", "host.zone"),
    (32, "http://[fec0::1]/", "address.private"),
    (33, "http://[fd00:ec2::254]/", "metadata"),
    (34, "http://[ff02::1]/", "address.private"),
    (35, "http://[3fff::1]/", "address.private"),
    (36, "http://[5f00::1]/", "address.private"),
    (37, "http://[100::1]/", "address.private"),
    (38, "http://[2001:db8::1]/", "address.private"),
    (39, "http://[127.0.0.1]/", "host.ipv6"),
    (40, "http://[::1/", "host.ipv6"),
]
PRIVATE = [
    (41, "http://10.0.0.1/", "address.private"),
    (42, "http://172.16.0.1/", "address.private"),
    (43, "http://172.31.255.255/", "address.private"),
    (44, "http://192.168.1.1/", "address.private"),
    (45, "http://100.64.0.1/", "address.private"),
    (46, "http://198.18.0.1/", "address.private"),
    (47, "http://192.0.0.9/", "address.private"),
    (48, "http://192.0.0.170/", "address.private"),
    (49, "http://224.0.0.1/", "address.private"),
    (50, "http://240.0.0.1/", "address.private"),
    (51, "http://255.255.255.255/", "address.private"),
    (52, "http://203.0.113.7/", "address.private"),
    (53, "http://192.88.99.1/", "address.private"),
]
METADATA = [
    (54, "http://169.254.169.254/latest/meta-data/", "metadata"),
    (55, "http://2852039166/", "host.ipv4"),
    (56, "http://169.254.170.2/", "metadata"),
    (57, "http://100.100.100.200/", "metadata"),
    (58, "http://168.63.129.16/", "metadata"),
    (59, "http://metadata.google.internal/", "metadata"),
    (60, "http://169.254.169.254.nip.io/", "metadata"),
]
AUTHORITY = [
    (61, "http://user:pw@127.0.0.1/", "url.userinfo"),
    (62, "http://example.com@127.0.0.1/", "url.userinfo"),
    (63, "http://127.0.0.1#@example.com/", "address.private"),
    (64, "http://127.0.0.1\\@example.com/", "url.characters"),
    (65, "http://example.com\\@127.0.0.1/", "url.characters"),
    (66, "http://127.0.0.1%2f@example.com/", "url.userinfo"),
    (67, "http://127.0.0.1%00.example.com/", "host.syntax"),
    (68, "http://127.0.0.1%0d%0aX:1/", "host.syntax"),
    (69, "http://127.0.\t0.1/", "url.characters"),
    (70, "http://127.0.\n0.1/", "url.characters"),
    (71, " http://127.0.0.1/", "url.characters"),
    (72, "http:127.0.0.1/", "url.syntax"),
    (73, "http:///127.0.0.1/", "host.empty"),
    (74, "//127.0.0.1/", "url.syntax"),
    (75, "http://:80/", "host.empty"),
    (76, "http://./", "host.empty"),
    (77, "http://%31%32%37.0.0.1/", "host.ipv4"),
]
UNICODE = [
    (78, "http://\u2460\u2461\u2466.\u24ea.\u24ea.\u2460/", "host.idna"),
    (79, "http://127\u30020\u30020\u30021/", "host.idna"),
    (80, "http://\uff11\uff12\uff17.0.0.1/", "host.ipv4"),
    (81, "http://local\u00adhost/", "host.idna"),
    (82, "http://example.com\uff20127.0.0.1/", "host.ipv4"),
]
SCHEMES_AND_PORTS = [
    (83, "file:///etc/passwd", "url.scheme"),
    (84, "gopher://127.0.0.1:6379/_INFO", "url.scheme"),
    (85, "ftp://127.0.0.1/", "url.scheme"),
    (86, "dict://x:11211/", "url.scheme"),
    (87, "unix:///var/run/docker.sock", "url.scheme"),
    (88, "http+unix://%2Fvar%2Frun%2Fdocker.sock/info", "url.scheme"),
    (89, "data:text/plain,x", "url.scheme"),
    (90, "javascript:1", "url.scheme"),
    (91, "http://example.com:22/", "port.forbidden"),
    (92, "http://example.com:6379/", "port.forbidden"),
    (93, "http://example.com:0/", "port.forbidden"),
    (94, "http://example.com:-1/", "port.syntax"),
    (95, "http://example.com:99999/", "port.syntax"),
    (96, "http://example.com:\uff18\uff10/", "port.syntax"),
    (97, "http://example.com:443abc/", "port.syntax"),
]

REFUSED = [*IPV4_LOOPBACK, *IPV6, *PRIVATE, *METADATA, *AUTHORITY, *UNICODE, *SCHEMES_AND_PORTS]

ANSWERS = {"169.254.169.254.nip.io": ["169.254.169.254"]}
"""What the fake resolver says; every other name is public."""
PUBLIC_ADDRESS = "93.184.216.34"

MUST_PASS = [
    "https://example.com/",
    "http://93.184.216.34/",
    "https://b\u00fccher.example/",
    "https://[2606:4700::1111]/",
    "https://example.com:8443/",
]
