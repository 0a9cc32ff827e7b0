"""Whatever is asked, there is an answer of a documented shape: never an exception."""

from __future__ import annotations

import json

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from massive_lab.schema.endpoints import ENDPOINTS

JUNK = st.one_of(
    st.sampled_from(
        [
            "", "0", "1", "-1", "9" * 19, "9" * 40, "1.5", "nan", "inf", "true", "asc", "desc", "TST", "I:TIN", "O:", "I:",
            "X:BTCUSD", "O:TST250620C00100000", "O:TST259920C00100000", "2025-06-04", "2025-02-29", "0001-01-01",
            "9999-12-31", "2262-04-12", "1748836800000", "1748836800000000000", "2025-06-04T09:30:00Z", "minute", "year",
            "0001-01-01T00:00:00Z", "9999-12-31T23:59:59-23:59", "100000", ",", "a,b", "AAPL,,TST", "\u00e9", "\u0661",
        ]
    ),
    st.text(max_size=12),
)  # fmt: skip
NAMES = st.sampled_from(
    [
        "limit", "sort", "order", "adjusted", "timestamp", "timestamp.gte", "timestamp.lt", "ticker", "ticker.any_of",
        "ticker.gt", "type", "tickers", "strike_price", "strike_price.gte", "expiration_date", "expiration_date.lte",
        "contract_type", "as_of", "expired", "underlying_ticker", "cursor", "window", "timespan", "series_type", "date",
        "short_window", "long_window", "signal_window", "expand_underlying", "market", "search", "id", "asset_class",
        "underlying_ticker.any_of", "include_otc", "data_type", "sip", "locale",
    ]
)  # fmt: skip


@settings(
    max_examples=400, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    template=st.sampled_from(sorted(ENDPOINTS.values())),
    parts=st.fixed_dictionaries(
        {
            name: st.one_of(st.sampled_from(["TST", "1", "day", "2025-06-04", "gainers"]), JUNK)
            for name in (
                "symbol", "multiplier", "timespan", "start", "end", "date", "underlying", "contract", "direction",
            )
        }
    ),
    query=st.dictionaries(NAMES, JUNK, max_size=4),
    tier=st.sampled_from(["basic", "starter", "advanced"]),
)  # fmt: skip
def test_junk_is_answered(tiny, call, template, parts, query, tier):
    answer = call(tiny, tier).raw(template.format(**parts), query)
    assert answer.status in {200, 400, 403, 404}
    if answer.content_type == "application/json":
        body = json.loads(answer.body)
        if answer.status != 200:
            assert {"status", "request_id"} < set(body)
