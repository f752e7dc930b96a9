-- One row per (code, session, source) of a trading day: counts, ns, prices × 10⁶, parts per million; no float.
--
-- What was received: trades filled in from the broker's history are proven elsewhere and have no books.
-- `ticks` and `books` hide repeats, the `_raw` views hold every row received. A market is the board lane inside its
-- session; trial matches and odd lots are only counted. Rows are compared in the order they were recorded in,
-- (run_id, sequence), and never across runs: dozens of events share a stamp.
WITH
    raw AS (
        SELECT code, session, source, lane, outside, flags FROM ticks_raw WHERE trading_day = {day:Date32} AND source <> {backfill:String}
        UNION ALL
        SELECT code, session, source, lane, outside, flags FROM books_raw WHERE trading_day = {day:Date32} AND source <> {backfill:String}
    ),
    counted AS (
        SELECT code, session, source,
               count() AS rows,
               countIf(lane = {trial:UInt8}) AS trial_rows,
               countIf(lane = {odd:UInt8}) AS odd_rows,
               countIf(outside AND lane <> {trial:UInt8}) AS outside_rows,
               countIf(bitTest(flags, {suspect_bit:UInt8})) AS suspect_rows
        FROM raw
        GROUP BY code, session, source
    ),
    -- What was received, repeats hidden.
    seen AS (
        SELECT code, session, source, run_id, 'trade' AS kind, lane, sequence, outside, flags, exchange_ns, received_ns
        FROM ticks WHERE trading_day = {day:Date32} AND source <> {backfill:String}
        UNION ALL
        SELECT code, session, source, run_id, 'book' AS kind, lane, sequence, outside, flags, exchange_ns, received_ns
        FROM books WHERE trading_day = {day:Date32} AND source <> {backfill:String}
    ),
    -- A stamp of the year 2000 is a fault of the decoder, counted as suspect: it measures nothing.
    stepped AS (
        SELECT code, session, source, lane, outside,
               if(bitTest(flags, {suspect_bit:UInt8}), NULL, exchange_ns) AS stamp_ns,
               received_ns - stamp_ns AS delay_ns,
               lagInFrame(stamp_ns) OVER recorded - stamp_ns AS back_ns,
               ifNull(lagInFrame(received_ns - stamp_ns) OVER recorded, 0) AS delay_ns_before
        FROM seen
        WINDOW recorded AS (PARTITION BY source, code, session, kind, lane, run_id ORDER BY sequence)
    ),
    timed AS (
        SELECT code, session, source,
               count() AS visible_rows,
               countIf(back_ns > 0) AS backwards,
               greatest(ifNull(max(back_ns), 0), 0) AS backwards_ns_max,
               count(delay_ns) AS delayed_rows,
               min(delay_ns) AS delay_ns_min,
               quantileExactOrNull(0.5)(delay_ns) AS delay_ns_median,
               quantileExactOrNull(0.99)(delay_ns) AS delay_ns_p99,
               max(delay_ns) AS delay_ns_max,
               countIf(delay_ns < 0) AS negative_delays,
               countIf(delay_ns < 0 AND delay_ns_before >= 0) AS negative_episodes,
               arraySort(groupArrayIf(assumeNotNull(stamp_ns), lane = {board:UInt8} AND NOT outside
                                                               AND stamp_ns IS NOT NULL)) AS stamps,
               arrayMap((a, b) -> b - a, arrayPopBack(stamps), arrayPopFront(stamps)) AS silences,
               arrayMax(silences) AS silence_ns
        FROM stepped
        GROUP BY code, session, source
    ),
    trades AS (
        SELECT code, session, source, run_id, sequence, assumeNotNull(price_e6) AS price_e6,
               assumeNotNull(volume) AS volume, total_volume, price_e6 - price_chg_e6 AS reference_e6,
               ifNull(lagInFrame(price_e6) OVER (PARTITION BY source, code, session, run_id ORDER BY sequence), 0)
                   AS price_e6_before
        FROM ticks
        WHERE trading_day = {day:Date32} AND lane = {board:UInt8} AND NOT outside
          AND NOT bitTest(flags, {suspect_bit:UInt8}) AND price_e6 IS NOT NULL AND volume IS NOT NULL
    ),
    -- 0 is a side with nothing to compare with: empty, or only a market order, which stands in no order of prices.
    quotes AS (
        SELECT code, session, source, run_id, sequence,
               ifNull(bid_price_e6_1, 0) AS bid_e6, ifNull(ask_price_e6_1, 0) AS ask_e6,
               bid_price_e6_1 IS NULL AS no_bid, ask_price_e6_1 IS NULL AS no_ask
        FROM books
        WHERE trading_day = {day:Date32} AND lane = {board:UInt8} AND NOT outside
          AND NOT bitTest(flags, {suspect_bit:UInt8}) AND NOT bitTest(flags, {oversize_bit:UInt8})
    ),
    -- Each trade against the book recorded before it; bands of a tenth around the reference, and their whole width.
    traded AS (
        SELECT code, session, source,
               count() AS trades,
               sum(volume) AS lots,
               countIf(total_volume IS NULL) AS trades_without_total,
               countIf(bid_e6 > 0 OR ask_e6 > 0) AS touch_compared,
               countIf((ask_e6 > 0 AND price_e6 > ask_e6) OR (bid_e6 > 0 AND price_e6 < bid_e6)) AS off_touch,
               countIf(price_e6_before > 0 AND (price_e6 * 9 > price_e6_before * 11
                                                OR price_e6_before * 9 > price_e6 * 11)) AS price_jumps,
               countIf(abs(price_e6 - reference_e6) * 10 > reference_e6) AS beyond_limit
        FROM trades ASOF LEFT JOIN quotes USING (code, session, source, run_id, sequence)
        GROUP BY code, session, source
    ),
    quoted AS (
        SELECT code, session, source,
               count() AS books,
               countIf(bid_e6 > ask_e6 AND ask_e6 > 0) AS crossed_books,
               countIf(bid_e6 = ask_e6 AND ask_e6 > 0) AS locked_books,
               countIf(no_bid <> no_ask) AS one_sided_books,
               countIf(no_bid AND no_ask) AS empty_books
        FROM quotes
        GROUP BY code, session, source
    )
SELECT
    code::String AS code, session::String AS session, source::String AS source,
    rows, trades, lots, books, trial_rows, odd_rows, outside_rows, suspect_rows, rows - visible_rows AS duplicates,
    trades_without_total,
    if(books = 0, trades, 0) AS trades_without_books,
    if(trades = 0, books, 0) AS books_without_trades,
    crossed_books, locked_books, one_sided_books, empty_books, touch_compared, off_touch, price_jumps, beyond_limit,
    backwards, backwards_ns_max, delayed_rows, delay_ns_min, delay_ns_median, delay_ns_p99, delay_ns_max,
    negative_delays, negative_episodes,
    length(stamps) AS events, if(events > 0, stamps[1], NULL) AS first_ns, if(events > 0, stamps[-1], NULL) AS last_ns,
    if(events > 1, silence_ns, NULL) AS silence_ns,
    if(events > 1, stamps[indexOf(silences, silence_ns)], NULL) AS silence_from_ns,
    intDiv(off_touch * 1000000, greatest(touch_compared, 1)) AS off_touch_ppm,
    intDiv(crossed_books * 1000000, greatest(books, 1)) AS crossed_ppm,
    intDiv(one_sided_books * 1000000, greatest(books, 1)) AS one_sided_ppm,
    intDiv(backwards * 1000000, greatest(visible_rows, 1)) AS backwards_ppm,
    intDiv(duplicates * 1000000, rows) AS duplicates_ppm,
    intDiv(outside_rows * 1000000, rows) AS outside_ppm
FROM counted
LEFT JOIN timed USING (code, session, source)
LEFT JOIN traded USING (code, session, source)
LEFT JOIN quoted USING (code, session, source)
ORDER BY source, code, session
