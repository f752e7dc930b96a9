//! Where every field of a record lies and what every number is, listed for the test that holds `events.py` against them.
//! Nothing in the log or the ring reads these lists.
use crate::record::*;

macro_rules! layout {
    ($struct_name:literal, $type:ty, $($field:ident),+) => {
        [$(($struct_name, stringify!($field), std::mem::offset_of!($type, $field), {
            const fn size<T, F>(_: fn(&T) -> &F) -> usize { size_of::<F>() }
            size(|value: &$type| &value.$field)
        })),+]
    };
}

/// (struct, field, offset within the struct, bytes) of every field, for the test that pins both languages.
pub fn layout() -> Vec<(&'static str, &'static str, usize, usize)> {
    let header = layout!(
        "header",
        Header,
        kind,
        broker_class,
        lane,
        exchange,
        flags,
        sequence,
        exchange_ns,
        received_ns,
        code,
        connection,
        side,
        chg_type,
        source_offset_ns
    );
    let trade = layout!(
        "trade",
        TradeBody,
        price_e6,
        volume,
        total_volume,
        open_e6,
        high_e6,
        low_e6,
        avg_price_e6,
        amount_e6,
        total_amount_e6,
        price_chg_e6,
        pct_chg_e6,
        underlying_price_e6,
        closing_oddlot_close_e6,
        closing_oddlot_amount_e6,
        closing_oddlot_bid_price_e6,
        closing_oddlot_ask_price_e6,
        fixed_trade_amount_e6,
        bid_side_total_vol,
        ask_side_total_vol,
        bid_side_total_cnt,
        ask_side_total_cnt,
        closing_oddlot_shares,
        fixed_trade_vol,
        reserved
    );
    let book = layout!(
        "book",
        BookBody,
        bid_price_e6,
        ask_price_e6,
        bid_volume,
        ask_volume,
        diff_bid_vol,
        diff_ask_vol,
        bid_total_vol,
        ask_total_vol,
        first_derived_bid_price_e6,
        first_derived_ask_price_e6,
        first_derived_bid_vol,
        first_derived_ask_vol,
        underlying_price_e6
    );
    let text = layout!("text", TextBody, begin_ns, end_ns, value, field, part, parts, text_length, text);
    header.into_iter().chain(trade).chain(book).chain(text).collect()
}

/// (group, name, value) of every number that both languages state, for the same test.
pub fn constants() -> Vec<(&'static str, &'static str, i64)> {
    let sizes: &[(&str, i64)] = &[
        ("SCHEMA_VERSION", SCHEMA_VERSION as i64),
        ("RECORD_BYTES", RECORD_BYTES as i64),
        ("HEADER_BYTES", HEADER_BYTES as i64),
        ("CODE_BYTES", CODE_BYTES as i64),
        ("LEVELS", LEVELS as i64),
        ("TEXT_BYTES", TEXT_BYTES as i64),
        ("REST_FIELD", REST_FIELD as i64),
        ("ABSENT_I64", ABSENT_I64),
        ("ABSENT_I32", ABSENT_I32 as i64),
        ("ABSENT_U32", ABSENT_U32 as i64),
        ("ABSENT_U8", ABSENT_U8 as i64),
        ("EMPTY_PRICE_E6", EMPTY_PRICE_E6),
    ];
    [
        ("", sizes),
        ("Kind", kind::ALL),
        ("Lane", lane::ALL),
        ("Exchange", exchange::ALL),
        ("BrokerClass", broker_class::ALL),
        ("Flag", flag::ALL),
        ("RingState", crate::ring::state::ALL),
    ]
    .into_iter()
    .flat_map(|(group, numbers)| numbers.iter().map(move |(name, value)| (group, *name, *value)))
    .collect()
}
