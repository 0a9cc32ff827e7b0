"""The vendor's own Python client, unchanged, through a gateway process: row for row what it gets without one."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from massive import RESTClient
from massive.exceptions import BadResponse

from massive_lab.errors import ConfigError
from massive_lab.gateway.process import GatewayProcess
from massive_lab.sandbox.process import SandboxProcess

DAY = "2018-12-18"
TEN_NS = 1_545_145_200_000_000_000  # 2018-12-18 10:00 New York
MINUTE_NS = 60_000_000_000
PLENTY = {"MASSIVE_GATEWAY_CALLS_PER_MINUTE": "100000", "MASSIVE_GATEWAY_CALLS_PER_MINUTE_TOTAL": "100000"}


@pytest.fixture(scope="module")
def gateway(sandbox: SandboxProcess) -> Iterator[GatewayProcess]:
    with GatewayProcess(sandbox=sandbox.rest_url, environ=PLENTY) as process:
        yield process


def contract(rest: RESTClient) -> str:
    found = rest.list_options_contracts("AAPL", as_of=DAY, strike_price=115, expiration_date="2018-12-21")
    return str(next(iter(found)).ticker)


ticks: dict[str, Any] = {"timestamp_gte": TEN_NS, "timestamp_lt": TEN_NS + 2 * MINUTE_NS}
indicator: dict[str, Any] = {"timespan": "day", "timestamp_lte": DAY, "limit": 5, "expand_underlying": True}

CALLS: dict[str, Callable[[RESTClient], Any]] = {
    "list_aggs": lambda rest: list(rest.list_aggs("AAPL", 1, "minute", "2018-12-10", DAY, limit=500, sort="asc")),
    "list_aggs desc": lambda rest: list(rest.list_aggs("AAPL", 1, "minute", "2018-12-17", DAY, limit=300, sort="desc")),
    "get_aggs": lambda rest: rest.get_aggs("AAPL", 1, "hour", DAY, DAY, limit=50_000),
    "get_aggs index": lambda rest: rest.get_aggs("I:SPX", 1, "day", "2018-12-03", DAY),
    "get_aggs option": lambda rest: rest.get_aggs(contract(rest), 1, "minute", DAY, DAY),
    "get_previous_close_agg": lambda rest: rest.get_previous_close_agg("AAPL"),
    "get_grouped_daily_aggs": lambda rest: rest.get_grouped_daily_aggs(DAY),
    "get_daily_open_close_agg": lambda rest: rest.get_daily_open_close_agg("AAPL", DAY),
    "list_trades": lambda rest: list(rest.list_trades("AAPL", limit=37, order="asc", **ticks)),
    "list_quotes": lambda rest: list(rest.list_quotes("AAPL", limit=137, order="desc", **ticks)),
    "get_last_trade": lambda rest: rest.get_last_trade("AAPL"),
    "get_last_quote": lambda rest: rest.get_last_quote("AAPL"),
    "list_snapshot_options_chain": lambda rest: list(
        rest.list_snapshot_options_chain("AAPL", params={"expiration_date": "2018-12-21", "limit": 10})
    ),
    "list_snapshot_options_chain index": lambda rest: list(
        rest.list_snapshot_options_chain("I:SPX", params={"expiration_date": "2018-12-21", "limit": 250})
    ),
    "get_snapshot_option": lambda rest: rest.get_snapshot_option("AAPL", contract(rest)),
    "list_universal_snapshots": lambda rest: list(
        rest.list_universal_snapshots(ticker_any_of=["AAPL", "I:SPX", contract(rest), "NOSUCH"], limit=2)
    ),
    "get_snapshot_indices": lambda rest: rest.get_snapshot_indices(ticker_any_of=["I:SPX"]),
    "list_snapshot_indices": lambda rest: list(rest.list_snapshot_indices(limit=2)),
    "get_snapshot_all": lambda rest: rest.get_snapshot_all("stocks", tickers=["AAPL", "MSFT"]),
    "get_snapshot_ticker": lambda rest: rest.get_snapshot_ticker("stocks", "AAPL"),
    "get_snapshot_direction": lambda rest: rest.get_snapshot_direction("stocks", "gainers"),
    "list_options_contracts": lambda rest: list(
        rest.list_options_contracts("SPX", expiration_date="2018-12-21", limit=100)
    ),
    "get_options_contract": lambda rest: rest.get_options_contract(contract(rest)),
    "list_tickers": lambda rest: list(rest.list_tickers(market="stocks", limit=7)),
    "get_ticker_details": lambda rest: rest.get_ticker_details("AAPL"),
    "get_ticker_types": lambda rest: rest.get_ticker_types(),
    "get_exchanges": lambda rest: rest.get_exchanges(asset_class="options"),
    "list_conditions": lambda rest: list(rest.list_conditions(asset_class="stocks", limit=5)),
    "get_sma": lambda rest: rest.get_sma("AAPL", **indicator),
    "get_ema": lambda rest: rest.get_ema("AAPL", **indicator),
    "get_rsi": lambda rest: rest.get_rsi("AAPL", **indicator),
    "get_macd": lambda rest: rest.get_macd("AAPL", **indicator),
    "get_market_status": lambda rest: rest.get_market_status(),
    "get_market_holidays": lambda rest: rest.get_market_holidays(),
}


@pytest.mark.parametrize("name", CALLS)
def test_the_official_client_gets_the_same_through_the_gateway(
    sandbox: SandboxProcess, gateway: GatewayProcess, name: str
) -> None:
    direct = RESTClient(api_key=sandbox.key, base=sandbox.rest_url)
    through = RESTClient(api_key=gateway.token, base=gateway.url)
    try:
        expected, got = plain(CALLS[name](direct)), plain(CALLS[name](through))
    finally:
        direct.client.clear()
        through.client.clear()
    assert expected
    # The address of the underlying bars is the gateway's, and the only thing that differs.
    assert got == json.loads(json.dumps(expected).replace(sandbox.rest_url, gateway.url))


def plain(thing: Any) -> Any:
    """A model of the client as JSON would hold it."""
    if isinstance(thing, list | tuple):
        return [plain(each) for each in thing]
    if isinstance(thing, dict):
        return {name: plain(value) for name, value in thing.items()}
    return plain(vars(thing)) if hasattr(thing, "__dict__") and not isinstance(thing, str) else thing


def fetch(url: str, token: str, **headers: str) -> tuple[int, dict[str, str], Any]:
    request = urllib.request.Request(url, headers={"x-massive-proxy-token": token, **headers})
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return answer.status, dict(answer.headers), json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, dict(error.headers), json.load(error)


def test_next_url_is_followed_word_for_word(gateway: GatewayProcess) -> None:
    url = f"{gateway.url}/v3/reference/tickers?market=stocks&limit=10"
    names: list[str] = []
    while url:
        assert url.startswith(f"{gateway.url}/")
        _, headers, page = fetch(url, gateway.token)
        names += [row["ticker"] for row in page["results"]]
        assert headers["X-Massive-Lab"] == "SANDBOX"
        url = page.get("next_url", "")
    assert len(names) >= 40
    assert names == sorted(set(names))


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (
            f"stocks/bars?ticker=AAPL&timeframe=5m&from={DAY}&to={DAY}",
            f"v2/aggs/ticker/AAPL/range/5/minute/{DAY}/{DAY}",
        ),
        (
            f"indices/bars?ticker=I:SPX&timeframe=1d&from=2018-12-03&to={DAY}",
            f"v2/aggs/ticker/I:SPX/range/1/day/2018-12-03/{DAY}",
        ),
        ("options/chain?underlying=AAPL&limit=20", "v3/snapshot/options/AAPL?limit=20"),
        (
            "options/contracts?underlying=I:SPX&limit=20",
            "v3/reference/options/contracts?underlying_ticker=SPX&limit=20",
        ),
        ("indices?tickers=I:SPX,I:VIX", "v3/snapshot/indices?ticker.any_of=I:SPX,I:VIX"),
    ],
    ids=["stocks", "indices bars", "chain", "contracts", "indices"],
)
def test_our_routes_are_the_vendor_s_in_other_words(gateway: GatewayProcess, ours: str, theirs: str) -> None:
    _, _, one = fetch(f"{gateway.url}/api/massive/{ours}", gateway.token)
    _, _, other = fetch(f"{gateway.url}/{theirs}", gateway.token)
    assert one["results"]
    assert one["results"] == other["results"]


def test_errors_arrive_as_the_client_knows_them(sandbox: SandboxProcess, gateway: GatewayProcess) -> None:
    with pytest.raises(BadResponse, match="Unknown API Key"):
        RESTClient(api_key="wrong", base=gateway.url).get_last_trade("AAPL")
    # The key of the vendor is no token of the gateway.
    with pytest.raises(BadResponse, match="Unknown API Key"):
        RESTClient(api_key=sandbox.key, base=gateway.url).get_last_trade("AAPL")
    with pytest.raises(BadResponse, match="NOT_FOUND"):
        RESTClient(api_key=gateway.token, base=gateway.url).get_last_trade("NOSUCH")


def of_vendor(sandbox: SandboxProcess, key: str) -> dict[str, str]:
    """The sandbox as if it were the vendor: by the variables that name the real one."""
    return {
        **PLENTY,
        "MASSIVE_API_KEY": key,
        "MASSIVE_REST_URL": sandbox.rest_url,
        "MASSIVE_WS_URL": sandbox.ws_url,
    }


def test_a_plan_that_lacks_it_is_403_and_a_refused_key_502(sandbox: SandboxProcess) -> None:
    canary = "canary-key-that-the-vendor-refuses"
    with (
        GatewayProcess(environ=of_vendor(sandbox, "sandbox-starter")) as starter,
        GatewayProcess(environ=of_vendor(sandbox, canary), arguments=("--log", "json")) as refused,
    ):
        with pytest.raises(BadResponse, match="NOT_AUTHORIZED"):
            RESTClient(api_key=starter.token, base=starter.url).get_last_quote("AAPL")
        status, headers, told = fetch(f"{refused.url}/v2/last/trade/AAPL?apiKey={refused.token}", refused.token)
        assert (status, told["error"]) == (502, "The gateway's key was refused upstream")
        assert "X-Massive-Lab" not in headers  # nobody said that this vendor is a sandbox
        fetch(f"{refused.url}/v2/last/trade/AAPL?apiKey=wrong-canary-token", "wrong-canary-token")
        with urllib.request.urlopen(f"{refused.admin_url}/metrics", timeout=20) as answer:
            metrics = answer.read().decode()
        log = refused.log()
    lines = [json.loads(line) for line in log.splitlines()]
    assert [line["status"] for line in lines if line["event"] == "request"] == [502, 401]
    for secret in (canary, refused.token, "wrong-canary-token", "apiKey", "a-secret-of"):
        assert secret not in log
        assert secret not in metrics
        assert secret not in f"{headers}{told}"
    assert "AAPL" not in metrics


def test_1200_calls_a_minute_for_200_clients_at_once(sandbox: SandboxProcess) -> None:
    tokens = {"desk": "desk-0123456789abcdef", "other": "other-0123456789abcdef"}
    with GatewayProcess(sandbox=sandbox.rest_url, tokens=tokens) as gateway:
        before = time.monotonic()
        answers = asyncio.run(crowd(gateway.url, list(tokens.values()), n_clients=200, n_calls=7))
        took_s = time.monotonic() - before
        assert Counter(status for status, _ in answers) == {200: 1200, 429: 200}
        # The first place is free again 60 seconds after it was taken, which was at most `took_s` ago.
        assert all(60 - took_s <= int(after) <= 60 for status, after in answers if status == 429)
        # No spelling of token or path is a way around.
        for target in (
            "v3/reference/exchanges",
            "/v3/reference/exchanges",
            "v3/reference/exchange%73",
            "api/massive/v3/snapshot",
        ):
            status, headers, _ = fetch(f"{gateway.url}/{target}?apiKey={tokens['desk']}", tokens["desk"])
            assert status == 429
            assert 0 < int(headers["Retry-After"]) <= 60


async def crowd(url: str, tokens: list[str], *, n_clients: int, n_calls: int) -> list[tuple[int, str]]:
    """Clients with a connection each, all at once; their statuses and what they were told to wait."""
    parts = urlsplit(url)

    async def client(number: int) -> list[tuple[int, str]]:
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
        found = []
        for _ in range(n_calls):
            writer.write(
                f"GET /v3/reference/exchanges HTTP/1.1\r\nHost: {parts.netloc}\r\n"
                f"Authorization: Bearer {tokens[number % len(tokens)]}\r\n\r\n".encode()
            )
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            length = re.search(r"(?i)content-length: (\d+)", head)
            after = re.search(r"(?i)retry-after: (\d+)", head)
            assert length is not None
            await reader.readexactly(int(length[1]))
            found.append((int(head.split(" ")[1]), after[1] if after else ""))
        writer.close()
        return found

    async with asyncio.timeout(60):
        each = await asyncio.gather(*(client(number) for number in range(n_clients)))
    return [answer for answers in each for answer in answers]


def test_tokens_are_changed_without_a_restart(sandbox: SandboxProcess, tmp_path: Path) -> None:
    file = tmp_path / "tokens.toml"
    file.write_text('[tokens.desk]\ntoken = "first-0123456789abcdef"\n')
    environ = {"MASSIVE_GATEWAY_TOKENS_FILE": str(file), "MASSIVE_GATEWAY_TOKENS": ""}
    with GatewayProcess(sandbox=sandbox.rest_url, tokens={}, environ=environ) as gateway:
        target = f"{gateway.url}/v3/reference/exchanges"
        assert fetch(target, "first-0123456789abcdef")[0] == 200
        file.write_text("[tokens.desk]\ntoken = nonsense")
        gateway.reload()
        until(lambda: "tokens not changed" in gateway.log())
        assert fetch(target, "first-0123456789abcdef")[0] == 200
        file.write_text('[tokens.desk]\ntoken = "second-0123456789abcdef"\n')
        gateway.reload()
        until(lambda: fetch(target, "second-0123456789abcdef")[0] == 200)
        assert fetch(target, "first-0123456789abcdef")[0] == 401
        # And without being told: the file is looked at every two seconds.
        file.write_text('[tokens.desk]\ntoken = "third-0123456789abcdefg"\n')
        until(lambda: fetch(target, "third-0123456789abcdefg")[0] == 200)
        assert "0123456789abcdef" not in gateway.log()


def until(done: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 120
    while not done():
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.05)


def test_it_starts_and_ends_in_order_and_says_sandbox_everywhere(sandbox: SandboxProcess) -> None:
    with GatewayProcess(sandbox=sandbox.rest_url) as gateway:
        for path, text in (("healthz", "ok\n"), ("readyz", "ready\n")):
            with urllib.request.urlopen(f"{gateway.admin_url}/{path}", timeout=20) as answer:
                assert answer.read().decode() == text
        gateway.terminate()
        assert gateway.wait() == 0
        lines = gateway.log().splitlines()
    assert [line.split(" ")[2] for line in lines] == [
        "starting",
        "serving",
        "listening",
        "listening",
        "ready",
        "draining",
        "stopped",
    ]
    assert all("data=SANDBOX" in line for line in lines)


def test_what_is_under_way_is_answered_before_the_end(sandbox: SandboxProcess) -> None:
    with GatewayProcess(sandbox=sandbox.rest_url) as gateway:
        sandbox.control.add_fault("latency", scope="aggs_prev", direction="down", latency_ms=4000)
        target = f"{gateway.url}/v2/aggs/ticker/MSFT/prev"

        async def ask() -> int:
            asked = asyncio.create_task(asyncio.to_thread(fetch, target, gateway.token))
            while "upstream_in_flight_requests 1.0" not in await asyncio.to_thread(metrics):
                assert not asked.done(), "it was answered before it was looked for"
            gateway.terminate()
            return (await asked)[0]

        def metrics() -> str:
            with urllib.request.urlopen(f"{gateway.admin_url}/metrics", timeout=20) as answer:
                return str(answer.read().decode())

        try:
            assert asyncio.run(ask()) == 200
        finally:
            sandbox.control.reset_faults()
        assert gateway.wait() == 0


def test_a_sandbox_is_started_along_when_none_is_named() -> None:
    with GatewayProcess(arguments=("--sandbox",)) as gateway:
        assert RESTClient(api_key=gateway.token, base=gateway.url).get_last_trade("AAPL").ticker == "AAPL"
        gateway.terminate()
        assert gateway.wait() == 0


def test_ctrl_c_is_a_clean_end_too(sandbox: SandboxProcess) -> None:
    with GatewayProcess(sandbox=sandbox.rest_url) as gateway:
        gateway._child.send_signal(signal.SIGINT)
        assert gateway.wait() == 0
        assert "Traceback" not in gateway.log()


def test_a_port_in_use_is_said_in_one_line(gateway: GatewayProcess, sandbox: SandboxProcess) -> None:
    port = str(urlsplit(gateway.url).port)
    with pytest.raises(ConfigError, match=rf"cannot listen on 127.0.0.1:{port}: .*[Aa]ddress already in use"):
        GatewayProcess(sandbox=sandbox.rest_url, arguments=("--port", port))
