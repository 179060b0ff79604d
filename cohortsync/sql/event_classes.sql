-- one row per event name that is not simply qualifying
-- system: in no reading; engagement and delivery: Mailchimp's, exempt from MTU, in two published spellings
select event, class, source from (values
    ('$identify', 'system', 'billing page'), ('$create_alias', 'system', 'billing page'),
    ('$merge', 'system', 'billing page'), ('$opt_in', 'system', 'billing page'),
    ('$mp_session_record', 'system', 'billing page'), ('$experiment_started', 'system', 'billing page'),
    ('$campaign_delivery', 'system', 'billing page'), ('$campaign_received', 'system', 'billing page'),
    ('$campaign_bounced', 'system', 'billing page'), ('$campaign_marked_spam', 'system', 'billing page'),
    ('$message_suppressed', 'system', 'billing page'), ('$unsubscribe', 'system', 'billing page'),
    ('$journey_entered', 'system', 'billing page'),
    ('Mailchimp Campaign - Open', 'engagement', 'billing page'),
    ('Mailchimp Campaign - Click', 'engagement', 'billing page'),
    ('Mailchimp Campaign - Sent', 'delivery', 'billing page'),
    ('Mailchimp Campaign - Unsubscribed', 'delivery', 'billing page'),
    ('Mailchimp Campaign - Bounce', 'delivery', 'billing page'),
    ('Mailchimp - Opened Campaign', 'engagement', 'integration page'),
    ('Mailchimp - Clicked Campaign Url', 'engagement', 'integration page'),
    ('Mailchimp - Sent To', 'delivery', 'integration page'),
    ('Mailchimp - Unsubscribed', 'delivery', 'integration page'),
    ('Mailchimp - Bounced', 'delivery', 'integration page')) as t(event, class, source)
