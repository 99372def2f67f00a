WARC/1.1
WARC-Type: metadata
WARC-Record-ID: <urn:uuid:00000000-0000-5000-8000-000000000000>
WARC-Date: 2025-04-08T07:00:00Z
WARC-Target-URI: https://almanac.example.org/dry-stone
WARC-Refers-To: <urn:uuid:11c60d02-b3a9-5d5f-9d2e-f628f5050535>
Content-Type: application/json
Content-Length: 777

{"Envelope": {"Format": "WARC/1.1", "WARC-Header-Metadata": {"WARC-Type": "response", "WARC-Record-ID": "<urn:uuid:11c60d02-b3a9-5d5f-9d2e-f628f5050535>", "WARC-Target-URI": "https://almanac.example.org/dry-stone", "WARC-Date": "2025-04-08T06:00:00Z"}, "Payload-Metadata": {"HTTP-Response-Metadata": {"Headers": {"Content-Language": "en", "Server": "almanac"}, "HTML-Metadata": {"Head": {"Title": "Dry stone", "Metas": [{"name": "description", "content": "A page of the almanac: dry stone."}, {"property": "og:type", "content": "article"}], "Link": [{"path": "LINK@/href", "url": "https://creativecommons.org/licenses/by/4.0/", "rel": "license"}]}, "Links": [{"path": "A@/href", "url": "/"}, {"path": "A@/href", "url": "/index"}, {"path": "IMG@/src", "url": "/stone.png"}]}}}}}

WARC/1.1
WARC-Type: metadata
WARC-Record-ID: <urn:uuid:00000000-0000-5000-8000-000000000001>
WARC-Date: 2025-04-08T07:00:00Z
WARC-Target-URI: https://almanac.example.org/paper-sizes
WARC-Refers-To: <urn:uuid:4ddff4a2-dbd5-5755-8f7b-e5f61be0f10c>
Content-Type: application/json
Content-Length: 688

{"Envelope": {"Format": "WARC/1.1", "WARC-Header-Metadata": {"WARC-Type": "response", "WARC-Record-ID": "<urn:uuid:4ddff4a2-dbd5-5755-8f7b-e5f61be0f10c>", "WARC-Target-URI": "https://almanac.example.org/paper-sizes", "WARC-Date": "2025-04-08T06:00:00Z"}, "Payload-Metadata": {"HTTP-Response-Metadata": {"Headers": {"Content-Language": "en", "Server": "almanac"}, "HTML-Metadata": {"Head": {"Title": "Paper sizes", "Metas": [{"name": "description", "content": "A page of the almanac: paper sizes."}, {"property": "og:type", "content": "article"}], "Link": []}, "Links": [{"path": "A@/href", "url": "/"}, {"path": "A@/href", "url": "/index"}, {"path": "IMG@/src", "url": "/stone.png"}]}}}}}

WARC/1.1
WARC-Type: metadata
WARC-Record-ID: <urn:uuid:00000000-0000-5000-8000-000000000002>
WARC-Date: 2025-04-08T07:00:00Z
WARC-Target-URI: https://almanac.example.org/reloj-de-sol
WARC-Refers-To: <urn:uuid:6fea0bca-b0c4-5fa8-8820-5ed8fdf7fa38>
Content-Type: application/json
Content-Length: 691

{"Envelope": {"Format": "WARC/1.1", "WARC-Header-Metadata": {"WARC-Type": "response", "WARC-Record-ID": "<urn:uuid:6fea0bca-b0c4-5fa8-8820-5ed8fdf7fa38>", "WARC-Target-URI": "https://almanac.example.org/reloj-de-sol", "WARC-Date": "2025-04-08T06:00:00Z"}, "Payload-Metadata": {"HTTP-Response-Metadata": {"Headers": {"Content-Language": "en", "Server": "almanac"}, "HTML-Metadata": {"Head": {"Title": "Reloj de sol", "Metas": [{"name": "description", "content": "A page of the almanac: reloj de sol."}, {"property": "og:type", "content": "article"}], "Link": []}, "Links": [{"path": "A@/href", "url": "/"}, {"path": "A@/href", "url": "/index"}, {"path": "IMG@/src", "url": "/stone.png"}]}}}}}

WARC/1.1
WARC-Type: metadata
WARC-Record-ID: <urn:uuid:00000000-0000-5000-8000-000000000009>
WARC-Date: 2025-04-08T07:00:00Z
Content-Type: application/json
Content-Length: 34

{"Envelope": {"Format": "WARC/1.1"

