-- one row per device: whose it is, when they first sign in on it (null: never), what and where it is
-- reads: variables devices, first_s
select device, lower(concat_ws('-', m[1:8], m[9:12], '4' || m[13:15], 'a' || m[16:18], m[19:30])) as device_id,
       'user_' || substr(md5('person' || device * 2 // 3), 1, 14) as user_id,
       if(r % 10 < 7, getvariable('first_s') + r // 10 % (120 * 86400), null) as signed_in_s,
       ['iOS', 'Android', 'Windows', 'Mac OS X', 'Linux'][1 + r % 5] as os,
       ['swift', 'android', 'web', 'web', 'web'][1 + r % 5] as lib,
       ['Kraków', 'Lisbon', 'Berlin', 'Boston', 'São Paulo', 'Chennai', 'Osaka', 'Toronto'][1 + r // 7 % 8] as city,
       ['PL', 'PT', 'DE', 'US', 'BR', 'IN', 'JP', 'CA'][1 + r // 7 % 8] as country
from (select range as device, md5('device' || range) as m, (hash(range, 1) % 1000000007)::bigint as r
      from range(getvariable('devices')))
