"""The vendor's paths that are served, and the names under which credentials travel in a query.

Those of `massive_lab.schema.endpoints`, which this library itself asks, and the others that the official clients ask for
stocks, options, indices and the economy. Currencies, crypto and futures are not served.
"""

from __future__ import annotations

from massive_lab.schema.endpoints import ENDPOINTS

__all__ = ["CREDENTIALS", "TEMPLATES"]

CREDENTIALS = frozenset(("apikey", "api_key", "token", "access_token", "x-massive-proxy-token", "authorization"))
"""Case-folded names of query parameters that never go upstream."""

TEMPLATES: dict[str, str] = {
    **ENDPOINTS,
    "branding": "/v1/reference/company-branding/{domain}/images/{file}",
    "dividends": "/v3/reference/dividends",
    "events": "/vX/reference/tickers/{symbol}/events",
    "financials": "/vX/reference/financials",
    "ipos": "/vX/reference/ipos",
    "news": "/v2/reference/news",
    "related_companies": "/v1/related-companies/{symbol}",
    "splits": "/v3/reference/splits",
    "summaries": "/v1/summaries",
    "options_exchanges": "/options/v1/exchanges",
    "options_quotes": "/options/v3/quotes/{symbol}",
    "options_trades": "/options/v3/trades/{symbol}",
    "stocks_dividends": "/stocks/v1/dividends",
    "stocks_exchanges": "/stocks/v1/exchanges",
    "stocks_float": "/stocks/vX/float",
    "stocks_short_interest": "/stocks/v1/short-interest",
    "stocks_short_volume": "/stocks/v1/short-volume",
    "stocks_splits": "/stocks/v1/splits",
    "balance_sheets": "/stocks/financials/v1/balance-sheets",
    "cash_flow_statements": "/stocks/financials/v1/cash-flow-statements",
    "income_statements": "/stocks/financials/v1/income-statements",
    "ratios": "/stocks/financials/v1/ratios",
    "filings_10k": "/stocks/filings/10-K/vX/sections",
    "filings_8k_disclosures": "/stocks/filings/8-K/vX/disclosures",
    "filings_8k_text": "/stocks/filings/8-K/vX/text",
    "filings_13f": "/stocks/filings/vX/13-F",
    "filings_form_3": "/stocks/filings/vX/form-3",
    "filings_form_4": "/stocks/filings/vX/form-4",
    "filings_index": "/stocks/filings/vX/index",
    "filings_risk_factors": "/stocks/filings/vX/risk-factors",
    "taxonomy_disclosures": "/stocks/taxonomies/vX/disclosures",
    "taxonomy_risk_factors": "/stocks/taxonomies/vX/risk-factors",
    "inflation": "/fed/v1/inflation",
    "inflation_expectations": "/fed/v1/inflation-expectations",
    "labor_market": "/fed/v1/labor-market",
    "treasury_yields": "/fed/v1/treasury-yields",
}
"""Endpoint name to path template; the names are labels of metrics."""
