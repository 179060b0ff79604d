-- one row per line of an export: an event as Mixpanel writes it, with its line end
-- reads: devices; variables first_line, end_line (of this file), events (lines of the first 89 days), first_s
-- Every 50th line repeats an earlier one; every 100th event was sent up to five days late.
with numbered as (
    select line, events, if(line % 50 = 49, greatest(line // events * events, line - 1 - 50 * (hash(line) % 400)::bigint),
                            line) as i
    from (select range as line, getvariable('events') as events
          from range(getvariable('first_line'), getvariable('end_line')))
),
drawn as (
    select i, i <> line as again, (hash(i, 1) % 1000000007)::bigint as r, hash(i, 2) / 18446744073709551616 as who,
           hash(i, 3) / 18446744073709551616 as what,
           getvariable('first_s') + i * 89 * 86400 // events as sent_s,
           if(i < events and hash(i, 4) % 100 = 0, hash(i, 5) % 432000, 0)::bigint as late_s
    from numbered
),
placed as (
    select *, greatest(getvariable('first_s'), sent_s - late_s) as time_s,
           sent_s * 1000 + 300 + r % 5000 + if(again, 3600000, 0) as received_ms, md5(i::varchar) as m,
           floor(getvariable('devices') * who ** 1.6)::bigint as device,
           ['Page viewed', 'App opened', 'Button clicked', 'Search run', 'Item viewed', 'Screen viewed', 'Filter set',
            'Report opened', 'Report shared', 'Comment added', 'File uploaded', 'File downloaded', 'Board created',
            'Board edited', 'Card moved', 'Card closed', 'Invite sent', 'Invite accepted', 'Signed up', 'Signed in',
            'Signed out', 'Plan viewed', 'Plan chosen', 'Payment made', 'Payment failed', 'Trial started',
            'Trial ended', 'Tour started', 'Tour finished', 'Help opened', 'Settings changed', 'Export made',
            'Integration added', 'Mailchimp Campaign - Sent', 'Mailchimp Campaign - Open',
            'Mailchimp - Clicked Campaign Url', 'Mailchimp - Opened Campaign', '$mp_session_record',
            '$campaign_delivery', '$experiment_started'][1 + floor(40 * what ** 3)::integer] as event
    from drawn
),
named as (
    select p.*, d.os, d.lib, d.city, d.country, d.device_id, starts_with(event, 'Mailchimp') as mailchimp,
           r % 1000 = 0 as nobody, d.signed_in_s <= time_s as signed_in, d.signed_in_s is not null and r % 3 = 0 as rewritten,
           d.user_id
    from placed p join devices d using (device)
)
select concat(
    '{"event":"', event, '","properties":{"time":', time_s,
    ',"distinct_id":"', case when nobody then '' when mailchimp or signed_in or rewritten then user_id
                             else '$device:' || device_id end, '"',
    if(r % 32 = 0, '', ',"$insert_id":"' || m[1:16] || '"'),
    ',"$city":"', city, '","mp_country_code":"', country, '","$os":"', os, '","mp_lib":"', lib,
    '","$app_build_number":', if(r % 4 = 0, '"2.14.0"', '4213'),
    ',"$current_url":"https://product.example/', m[1:3], '"',
    ',"plan":"', ['free', 'team', 'business'][1 + r % 3], '"',
    if(nobody or mailchimp, '', ',"$device_id":"' || device_id || '"'),
    if(mailchimp, ',"$source":"mailchimp"', ''),
    if(not nobody and (mailchimp or signed_in), ',"$user_id":"' || user_id || '"', ''),
    if(not (nobody or mailchimp or coalesce(signed_in, false)) and rewritten,
       ',"$distinct_id_before_identity":"$device:' || device_id || '","$is_reshuffled":true', ''),
    ',"$mp_api_endpoint":"api.mixpanel.com","$mp_api_timestamp_ms":', received_ms,
    ',"mp_processing_time_ms":', received_ms + 400 + r % 900, '}}', chr(10)) as line
from named
