filedesc://ferry.arc 0.0.0.0 20080419070000 text/plain 68
1 0 codedev
URL IP-address Archive-date Content-type Archive-length

dns:ferry.example.org 192.0.2.10 20080419070000 text/dns 55
20080419070000
ferry.example.org. 3600 IN A 192.0.2.10

http://ferry.example.org/chain 192.0.2.10 20080419070000 text/html 727
HTTP/1.1 200 OK
Content-Type: text/html; charset=utf-8
Content-Length: 647

<!DOCTYPE html>
<html lang="en"><head><title>The chain ferry</title><link rel="license" href="http://creativecommons.org/licenses/by-sa/3.0/"></head>
<body><h1>The chain ferry</h1>
<p>The ferry at the lower bend has no engine that turns a screw. Two chains lie across the river bed, and a drum on each side of the deck
pulls the boat along them, so that neither current nor wind can carry it away. At low water the chains rise dripping out of the mud in
front of the bow and sink again behind the stern.</p>
<p>A crossing takes four minutes. On market days the ferryman makes sixty of them and eats his bread between the banks.</p>
</body></html>

http://ferry.example.org/staff/roster 192.0.2.10 20080419070000 text/html 279
HTTP/1.1 200 OK
Content-Type: text/html
Content-Length: 214

<html><head><title>Roster</title><meta name="robots" content="noindex, noai"></head>
<body><p>The roster of the ferrymen is kept for those who work on the boat, and asks robots to leave it alone.</p></body></html>

http://ads.example.org/casino/boat 192.0.2.10 20080419070000 text/html 195
HTTP/1.1 200 OK
Content-Type: text/html
Content-Length: 130

<html><body><p>Win a boat at the casino by the river, every evening from six, and never row again in your life.</p></body></html>

http://ferry.example.org/broken 192.0.2.10 20080419070000 text/html 9999
HTTP/1.1 200 OK

<html>its end was never written
