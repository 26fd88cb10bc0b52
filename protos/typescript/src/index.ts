// What does not depend on where it runs; `marketcal/node` and `marketcal/web` connect.

export { MarketcalError, type FieldViolation } from "./errors.js";
export { DEFAULT_TIMEOUT_MS, marketcal, type Marketcal, type Options, type WatchOptions } from "./client.js";
