// The vendor's JavaScript client, unchanged, asking what tools/check_npm_client.py compares. Run by that file.
import { restClient, websocketClient } from '@massive.com/client-js';
import { createInterface } from 'node:readline';

const { key, rest: restUrl, ws: wsUrl, topics } = JSON.parse(process.argv[2]);
const say = (value) => process.stdout.write(JSON.stringify(value) + '\n');
const once = restClient(key, restUrl);
const paged = restClient(key, restUrl, { pagination: true });
const DAY = '2018-12-18';
const TEN_NS = '1545145200000000000';

const CALLS = {
  stocks_aggregates: () => once.getStocksAggregates(
    { stocksTicker: 'AAPL', multiplier: 1, timespan: 'day', from: '2018-12-03', to: DAY }),
  stocks_aggregates_paged: () => paged.getStocksAggregates(
    { stocksTicker: 'AAPL', multiplier: 1, timespan: 'minute', from: '2018-12-17', to: DAY, limit: 300 }),
  stocks_trades_paged: () => paged.getStocksTrades(
    { stockTicker: 'AAPL', timestampGte: TEN_NS, timestampLt: '1545145260000000000', order: 'asc', limit: 20 }),
  stocks_quotes: () => once.getStocksQuotes({ stockTicker: 'AAPL', timestampGte: TEN_NS, order: 'asc', limit: 20 }),
  previous_close: () => once.getPreviousStocksAggregates({ stocksTicker: 'AAPL' }),
  macd: () => once.getStocksMACD({ stockTicker: 'AAPL', timespan: 'day', limit: 5, expandUnderlying: true }),
  options_chain_paged: () => paged.getOptionsChain({ underlyingAsset: 'SPY', contractType: 'call', limit: 100 }),
  options_contracts: () => once.listOptionsContracts({ underlyingTicker: 'AAPL', limit: 10 }),
  indices_snapshot: () => once.getIndicesSnapshot({ tickerAnyOf: 'I:SPX,I:VIX' }),
  snapshots: () => once.getSnapshots({ tickerAnyOf: 'AAPL,I:SPX,NOSUCH' }),
  tickers: () => once.listTickers({ market: 'stocks', limit: 5 }),
  conditions: () => once.listConditions({ assetClass: 'stocks' }),
  market_status: () => once.getMarketStatus(),
  not_found: () => once.getTicker({ ticker: 'NOSUCH' }),
};

const answers = {};
for (const [name, call] of Object.entries(CALLS)) {
  try {
    answers[name] = await call();
  } catch (error) {
    answers[name] = { failed: error.response?.status ?? String(error), body: error.response?.data };
  }
}
say(answers);

const events = {};
const statuses = {};
let missing = 0;
const sockets = websocketClient(key, wsUrl);
await Promise.all(Object.entries(topics).map(([cluster, params]) => new Promise((resolve, reject) => {
  const socket = sockets[cluster]();
  const asked = params.split(',').length;
  let confirmed = 0;
  events[cluster] = [];
  statuses[cluster] = [];
  socket.onerror = () => reject(new Error(`${cluster} failed`));
  socket.onmessage = ({ data }) => {
    for (const message of JSON.parse(data)) {
      if (message.ev !== 'status') {
        events[cluster].push(message);
        continue;
      }
      statuses[cluster].push(message.status);
      if (message.status === 'auth_success') socket.send(JSON.stringify({ action: 'subscribe', params }));
      if (message.status === 'auth_failed') reject(new Error(message.message));
      if (message.message.startsWith('subscribed to:') && ++confirmed === asked) resolve();
    }
  };
})));
say('live');
for await (const line of createInterface({ input: process.stdin })) {
  const wanted = JSON.parse(line);
  const whole = () => Object.entries(wanted).every(([cluster, n]) => events[cluster].length >= n);
  while (!whole() && missing++ < 3000) await new Promise((resolve) => setTimeout(resolve, 10));
  // Whole, before the end: a pipe takes 64 KiB at a time.
  process.stdout.write(JSON.stringify({ events, statuses }) + '\n', () => process.exit(0));
  break;
}
