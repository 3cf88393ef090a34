-- How well each venue was followed, hour by hour. Ask for a span of hours: every quote of it is read.
-- columns:
--   venue: the exchange or pool family
--   hour: its start, UTC
--   instruments: how many of its instruments gave a quote
--   uptime: the part of the seconds in which quotes of any venue came, that its instruments had a live one
--   lag_p50_us: received_at - event_time of its quotes, clocks' offset included; null where it gives no time
--   lag_p99_us: the same at the 99th percentile
--   disconnects: connections lost
--   gaps: holes in its data
--   lost: trades or messages known to be missing
--   checksum_failures: books that were not what the venue had
-- example:
--   SELECT venue, hour, uptime, lag_p50_us, gaps, lost FROM venue_quality ORDER BY hour DESC, venue
WITH
    quoted AS
    (
        SELECT
            venue,
            toStartOfHour(time) AS hour,
            uniqExact(instrument) AS instruments,
            uniqExactIf((instrument, intDiv(received_at, 1000000)), state = 'live') AS live_seconds,
            quantile(0.5)(received_at - event_time) AS lag_p50_us,
            quantile(0.99)(received_at - event_time) AS lag_p99_us
        FROM quotes FINAL
        GROUP BY venue, hour
    ),
    covered AS
    (
        SELECT toStartOfHour(time) AS hour, uniqExact(intDiv(received_at, 1000000)) AS seconds
        FROM quotes FINAL
        GROUP BY hour
    ),
    befell AS
    (
        SELECT
            venue,
            toStartOfHour(time) AS hour,
            countIf(kind = 'disconnected') AS disconnects,
            countIf(kind = 'gap') AS gaps,
            sumIf(lost, kind = 'gap') AS lost,
            countIf(kind = 'checksum_failed') AS checksum_failures
        FROM venue_status FINAL
        GROUP BY venue, hour
    )
SELECT
    quoted.venue AS venue,
    quoted.hour AS hour,
    instruments,
    live_seconds / (instruments * covered.seconds) AS uptime,
    toInt64(lag_p50_us) AS lag_p50_us,
    toInt64(lag_p99_us) AS lag_p99_us,
    disconnects,
    gaps,
    ifNull(lost, 0) AS lost,
    checksum_failures
FROM quoted
INNER JOIN covered ON covered.hour = quoted.hour
LEFT JOIN befell ON befell.venue = quoted.venue AND befell.hour = quoted.hour
